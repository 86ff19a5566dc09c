// The field of predicted clean data at several noise levels, with a point to drag through it.
// All levels are here from the start, on a grid; between grid points the prediction is interpolated.

/** base64 of 16-bit integers -> numbers in [-1, 1] */
function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (v) => v / 32767);
}

function render({ model, el }) {
  const tr = (text, values = {}) => (model.get("messages")?.[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const SIDE = 420;
  el.innerHTML = `
    <style>
      .sf-field { font: 14px system-ui, sans-serif; max-width: ${SIDE}px; }
      .sf-field figure { margin: 0; }
      .sf-field canvas { width: 100%; aspect-ratio: 1; border-radius: 8px; background: #faf9f7; border: 1px solid #e4e1dc; touch-action: none; cursor: grab; }
      .sf-field figcaption { margin-top: 4px; opacity: 0.75; min-height: 3.6em; }
      .sf-field label { display: flex; gap: 12px; align-items: center; }
      .sf-field input { flex: 1 1 160px; min-width: 120px; accent-color: #b4552d; }
    </style>
    <div class="sf-field sf-scrub"><figure>
      <canvas width="${2 * SIDE}" height="${2 * SIDE}" tabindex="0" role="application"
        aria-label="${tr("a noisy point in the plane: drag it, or move it with the arrow keys")}"></canvas>
      <figcaption aria-live="polite"></figcaption></figure>
      <label>${tr("noise")} <input type="range" min="0" step="1" aria-label="${tr("noise level")}"></label></div>`;
  const canvas = el.querySelector("canvas"), pen = canvas.getContext("2d");
  const slider = el.querySelector("input"), caption = el.querySelector("figcaption");
  const reach = model.get("reach"), cells = model.get("cells"), sigmas = model.get("sigmas");
  const predictions = unpack(model.get("predictions")), data = unpack(model.get("data"));
  let point = model.get("point").map((v) => v / reach);
  slider.max = sigmas.length - 1;
  slider.value = model.get("start");

  /** the prediction at x, both in units of reach */
  function predicted(x) {
    const at = x.map((v) => Math.min(Math.max((v + 1) / 2 * (cells - 1), 0), cells - 1.001));
    const [i, j] = at.map(Math.floor), [a, b] = [at[0] - i, at[1] - j];
    const corner = (p, q, c) => predictions[2 * ((slider.value * cells + q) * cells + p) + c];
    return [0, 1].map((c) => (1 - b) * ((1 - a) * corner(i, j, c) + a * corner(i + 1, j, c))
      + b * ((1 - a) * corner(i, j + 1, c) + a * corner(i + 1, j + 1, c)));
  }

  const place = ([x, y]) => [(x + 1) * SIDE, (1 - y) * SIDE];

  function arrow(from, to, colour, width) {
    const [x, y] = place(from), [u, v] = place(to), angle = Math.atan2(v - y, u - x);
    const head = Math.min(4 * width, Math.hypot(u - x, v - y) / 2);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(u, v);
    for (const turn of [2.6, -2.6]) {
      pen.moveTo(u, v);
      pen.lineTo(u + head * Math.cos(angle + turn), v + head * Math.sin(angle + turn));
    }
    pen.stroke();
  }

  function disc([x, y], size, colour) {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(...place([x, y]), size, 0, 7);
    pen.fill();
  }

  function draw() {
    pen.clearRect(0, 0, 2 * SIDE, 2 * SIDE);
    for (let i = 0; i < data.length; i += 2) if (data[i] >= -1) disc([data[i], data[i + 1]], 2, "#d9d4cc");
    for (let i = 1; i < 18; i++) {
      for (let j = 1; j < 18; j++) {
        const from = [i / 9 - 1, j / 9 - 1], to = predicted(from);
        arrow(from, from.map((v, c) => v + 0.16 * (to[c] - v)), "#8aa0b8", 2);
      }
    }
    const guess = predicted(point), sigma = sigmas[slider.value];
    arrow(point, guess, "#b4552d", 4);
    disc(guess, 10, "#2d6a4f");
    disc(point, 13, "#b4552d");
    const words = (v) => `(${v.map((c) => c.toFixed(2)).join(", ")})`;
    caption.textContent = tr("sigma {sigma}: the noisy point {noisy} came, on average, from {clean}; score {score}", {
      sigma: sigma.toFixed(2), noisy: words(point.map((v) => v * reach)), clean: words(guess.map((v) => v * reach)),
      score: words(guess.map((v, c) => (v - point[c]) * reach / sigma ** 2)) });
  }

  function move(x, y) {
    point = [x, y].map((v) => Math.min(Math.max(v, -1), 1));
    draw();
  }

  function follow(event) {
    const box = canvas.getBoundingClientRect();
    move(2 * (event.clientX - box.left) / box.width - 1, 1 - 2 * (event.clientY - box.top) / box.height);
  }

  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); follow(event); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    move(point[0] + 0.03 * step[0], point[1] + 0.03 * step[1]);
  });
  slider.addEventListener("input", draw);
  draw();
}

export default { render };
