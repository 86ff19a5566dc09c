// Clouds of points on their way from noise to data, side by side; one slider moves through all of them.
// Everything is here from the start: moving the slider asks nobody.

/** base64 of 16-bit integers -> numbers in [-1, 1] */
function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (v) => v / 32767);
}

function render({ model, el }) {
  const tr = (text, values = {}) => (model.get("messages")?.[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const SIDE = 300;
  el.innerHTML = `
    <style>
      .sf-scrub { font: 14px system-ui, sans-serif; max-width: 100%; }
      .sf-scrub .sf-row { display: flex; flex-wrap: wrap; gap: 16px; }
      .sf-scrub figure { margin: 0; flex: 0 1 ${SIDE}px; min-width: 0; }
      .sf-scrub canvas { width: 100%; aspect-ratio: 1; border-radius: 8px; background: #faf9f7; border: 1px solid #e4e1dc; }
      .sf-scrub figcaption { margin-top: 4px; opacity: 0.75; }
      .sf-scrub .sf-bar:not([hidden]) { display: flex; gap: 12px; align-items: center; margin-top: 8px; flex-wrap: wrap; }
      .sf-scrub input { flex: 1 1 200px; min-width: 120px; accent-color: #b4552d; }
      .sf-scrub button { border: 1px solid #b4552d; background: none; color: #b4552d; border-radius: 6px; padding: 4px 14px; cursor: pointer; }
    </style>
    <div class="sf-scrub"><div class="sf-row"></div>
      <div class="sf-bar"><button type="button" aria-label="${tr("play")}">${tr("play")}</button>
        <input type="range" min="0" max="1000" aria-label="${tr("share of the way from noise to data")}">
        <output></output></div></div>`;
  const row = el.querySelector(".sf-row"), slider = el.querySelector("input");
  const output = el.querySelector("output"), button = el.querySelector("button");
  let runs = [], data = new Float32Array(), timer = null;

  function load() {
    data = model.get("data") ? unpack(model.get("data")) : new Float32Array();
    row.replaceChildren();
    runs = model.get("runs").map((run) => {
      const figure = document.createElement("figure");
      figure.innerHTML = `<canvas width="${2 * SIDE}" height="${2 * SIDE}" role="img"></canvas><figcaption></figcaption>`;
      figure.querySelector("canvas").setAttribute("aria-label", run.name);
      row.append(figure);
      return { ...run, x: unpack(run.bytes), pen: figure.querySelector("canvas").getContext("2d"),
               caption: figure.querySelector("figcaption") };
    });
    el.querySelector(".sf-bar").hidden = runs.every((run) => run.states === 1);  // points that do not move
    draw();
  }

  function dots(pen, x, from, count, colour, size) {  // returns how many lie outside the picture, which are not drawn
    let outside = 0;
    pen.fillStyle = colour;
    for (let i = from; i < from + 2 * count; i += 2) {
      if (x[i] < -1) {
        outside += 1;
        continue;
      }
      pen.fillRect((x[i] + 1) * SIDE - size / 2, (1 - x[i + 1]) * SIDE - size / 2, size, size);
    }
    return outside;
  }

  function draw() {
    const share = slider.value / 1000;
    for (const run of runs) {
      const k = Math.round(share * (run.states - 1));
      run.pen.clearRect(0, 0, 2 * SIDE, 2 * SIDE);
      dots(run.pen, data, 0, data.length / 2, "#d9d4cc", 4);
      const outside = dots(run.pen, run.x, 2 * k * run.points, run.points, "#b4552d", 5);
      run.caption.textContent = (run.states > 1 ? tr("{name}: step {k} of {last}", { name: run.name, k, last: run.states - 1 }) : run.name)
        + (outside ? tr("; {outside} of {all} points outside", { outside, all: run.points }) : "");
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
