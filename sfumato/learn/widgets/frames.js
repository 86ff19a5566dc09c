// Pictures on their way from noise to data, side by side; one slider moves through all of them.
// Everything is here from the start: moving the slider asks nobody.

/** base64 of bytes -> numbers from 0 to 255 */
function unpack(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function render({ model, el }) {
  const tr = (text, values = {}) => (model.get("messages")?.[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
  el.innerHTML = `
    <style>
      .sf-frames { font: 14px system-ui, sans-serif; max-width: 100%; }
      .sf-frames .sf-row { display: flex; flex-wrap: wrap; gap: 16px; }
      .sf-frames figure { margin: 0; flex: 0 1 300px; min-width: 0; }
      .sf-frames canvas { width: 100%; image-rendering: pixelated; border-radius: 6px; border: 1px solid #e4e1dc; }
      .sf-frames figcaption { margin-top: 4px; opacity: 0.75; }
      .sf-frames .sf-bar:not([hidden]) { display: flex; gap: 12px; align-items: center; margin-top: 8px; flex-wrap: wrap; }
      .sf-frames input { flex: 1 1 200px; min-width: 120px; accent-color: #b4552d; }
      .sf-frames button { border: 1px solid #b4552d; background: none; color: #b4552d; border-radius: 6px; padding: 4px 14px; cursor: pointer; }
    </style>
    <div class="sf-frames sf-scrub"><div class="sf-row"></div>
      <div class="sf-bar"><button type="button" aria-label="${tr("play")}">${tr("play")}</button>
        <input type="range" min="0" max="1000" aria-label="${tr("share of the way from noise to data")}">
        <output></output></div></div>`;
  const row = el.querySelector(".sf-row"), slider = el.querySelector("input");
  const output = el.querySelector("output"), button = el.querySelector("button");
  let runs = [], timer = null;

  function load() {
    row.replaceChildren();
    runs = model.get("runs").map((run) => {
      const figure = document.createElement("figure");
      figure.innerHTML = `<canvas width="${run.width}" height="${run.height}" role="img"></canvas><figcaption></figcaption>`;
      const canvas = figure.querySelector("canvas");
      canvas.setAttribute("aria-label", run.name);
      row.append(figure);
      const pen = canvas.getContext("2d");
      return { ...run, bytes: unpack(run.bytes), pen, picture: pen.createImageData(run.width, run.height),
               caption: figure.querySelector("figcaption") };
    });
    el.querySelector(".sf-bar").hidden = runs.every((run) => run.states === 1);  // pictures that do not move
    draw();
  }

  function draw() {
    const share = slider.value / 1000;
    for (const run of runs) {
      const k = Math.round(share * (run.states - 1)), size = run.width * run.height, pixels = run.picture.data;
      for (let i = 0; i < size; i++) {
        for (let c = 0; c < 3; c++) {
          pixels[4 * i + c] = run.bytes[(k * size + i) * run.channels + (run.channels === 3 ? c : 0)];
        }
        pixels[4 * i + 3] = 255;
      }
      run.pen.putImageData(run.picture, 0, 0);
      run.caption.textContent = run.states > 1 ? tr("{name}: step {k} of {last}", { name: run.name, k, last: run.states - 1 }) : run.name;
    }
    output.textContent = tr("{share} % of the way", { share: Math.round(100 * share) });
  }

  function stop() { clearInterval(timer); timer = null; button.textContent = tr("play"); }
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value >= 1000) slider.value = 0;
    button.textContent = tr("pause");
    timer = setInterval(() => {
      slider.value = +slider.value + 10;
      draw();
      if (slider.value >= 1000) stop();
    }, 30);
  });
  slider.addEventListener("input", () => { stop(); draw(); });
  model.on("change:runs", load);
  slider.value = 1000 * model.get("start");
  load();
  return stop;
}

export default { render };
