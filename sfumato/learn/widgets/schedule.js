// A noise schedule to draw: drag the handles of alpha-bar, and see the signal-to-noise ratio and the picture drown.
// The picture and its noise are here from the start; what is drawn goes back when a handle is let go.

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function render({ model, el }) {
  const tr = (text, values = {}) => (model.get("messages")?.[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const W = 640, H = 260, PAD = 28;
  el.innerHTML = `
    <style>
      .sf-schedule { font: 14px system-ui, sans-serif; max-width: ${W}px; }
      .sf-schedule svg { width: 100%; height: auto; background: #faf9f7; border: 1px solid #e4e1dc; border-radius: 8px; touch-action: none; display: block; }
      .sf-schedule circle { fill: #b4552d; cursor: ns-resize; }
      .sf-schedule circle:focus-visible { outline: none; stroke: #23282f; stroke-width: 3; }
      .sf-schedule text { font: 12px system-ui, sans-serif; fill: #6a7280; }
      .sf-schedule .sf-strip { display: grid; grid-template-columns: repeat(9, 1fr); gap: 4px; margin-top: 8px; }
      .sf-schedule canvas { width: 100%; image-rendering: pixelated; border-radius: 4px; display: block; }
      .sf-schedule figure { margin: 0; min-width: 0; }
      .sf-schedule figcaption { font-size: 11px; opacity: 0.75; text-align: center; }
    </style>
    <div class="sf-schedule sf-scrub">
      <svg viewBox="0 0 ${W} ${H}" role="group" aria-label="${tr("signal left at each level; drag the handles, or use the arrow keys")}"></svg>
      <div class="sf-strip"></div></div>`;
  const svg = el.querySelector("svg"), strip = el.querySelector(".sf-strip");
  const side = model.get("side"), channels = model.get("channels");
  const x0 = Float32Array.from(bytes(model.get("picture")), (v) => v / 127.5 - 1);
  const eps = Float32Array.from(new Int16Array(bytes(model.get("noise")).buffer), (v) => v / 8000);
  let heights = [...model.get("heights")];
  const last = heights.length - 1;
  const px = (u) => PAD + u * (W - 2 * PAD), py = (v) => H - PAD - v * (H - 2 * PAD);

  function make(kind, more, parent = svg) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(more)) node.setAttribute(name, value);
    return parent.appendChild(node);
  }
  const line = (values) => values.map((v, i) => `${px(i / (values.length - 1))},${py(v)}`).join(" ");

  make("line", { x1: PAD, x2: W - PAD, y1: py(0), y2: py(0), stroke: "#d9d4cc" });
  for (const { name, values, colour } of model.get("ghosts")) {
    make("polyline", { points: line(values), fill: "none", stroke: colour, "stroke-dasharray": "5 5", "stroke-width": 1.5 });
    const at = Math.round(0.45 * (values.length - 1));
    make("text", { x: px(0.45) + 6, y: py(values[at]) - 6, fill: colour }).textContent = name;
  }
  make("text", { x: PAD, y: H - 8 }).textContent = tr("data");
  make("text", { x: W - PAD, y: H - 8, "text-anchor": "end" }).textContent = tr("noise");
  make("text", { x: PAD, y: 16 }).textContent = tr("share of the variance that is signal, alpha-bar");
  const curve = make("polyline", { fill: "none", stroke: "#b4552d", "stroke-width": 2.5 });
  const handles = heights.map((_, i) => {
    const handle = make("circle", { cx: px(i / last), r: 8, tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": 1,
      "aria-label": tr("signal left at {i} of {last}", { i, last }) });
    handle.addEventListener("pointerdown", (event) => { handle.setPointerCapture(event.pointerId); event.preventDefault(); handle.focus(); });
    handle.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      const box = svg.getBoundingClientRect();
      set(i, (H - PAD - (event.clientY - box.top) * H / box.height) / (H - 2 * PAD));
    });
    handle.addEventListener("pointerup", tell);
    handle.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 0.02, ArrowRight: 0.02, ArrowDown: -0.02, ArrowLeft: -0.02 }[event.key];
      if (!by) return;
      event.preventDefault();
      set(i, heights[i] + by);
      tell();
    });
    return handle;
  });
  const frames = Array.from({ length: 9 }, () => {
    const figure = strip.appendChild(document.createElement("figure"));
    figure.innerHTML = `<canvas width="${side}" height="${side}" role="img"></canvas><figcaption></figcaption>`;
    return figure;
  });

  /** A handle goes no higher than the one before it and no lower than the one after. */
  function set(i, value) {
    const above = i === 0 ? 1 : heights[i - 1] - 0.001, below = i === last ? 0.0001 : heights[i + 1] + 0.001;
    heights[i] = Math.min(Math.max(value, below), above);
    draw();
  }

  function tell() {
    model.set("heights", heights);
    model.save_changes();
  }

  function at(u) {
    const i = Math.min(Math.floor(u * last), last - 1), part = u * last - i;
    return (1 - part) * heights[i] + part * heights[i + 1];
  }

  function draw() {
    curve.setAttribute("points", line(heights));
    handles.forEach((handle, i) => {
      handle.setAttribute("cy", py(heights[i]));
      handle.setAttribute("aria-valuenow", heights[i].toFixed(3));
    });
    frames.forEach((figure, k) => {
      const signal = at(k / 8), a = Math.sqrt(signal), s = Math.sqrt(1 - signal);
      const pixels = new ImageData(side, side);
      for (let p = 0; p < side * side; p += 1) {
        for (let c = 0; c < 3; c += 1) {
          const j = channels * p + (channels === 3 ? c : 0);
          pixels.data[4 * p + c] = 127.5 * (a * x0[j] + s * eps[j] + 1);
        }
        pixels.data[4 * p + 3] = 255;
      }
      const canvas = figure.querySelector("canvas");
      canvas.getContext("2d").putImageData(pixels, 0, 0);
      const snr = signal / (1 - signal);
      const words = snr > 900 ? tr("clean") : snr >= 10 ? snr.toFixed(0) : snr >= 0.1 ? snr.toPrecision(2) : snr.toExponential(0);
      canvas.setAttribute("aria-label", tr("the picture at {k} of 8, signal to noise {words}", { k, words }));
      figure.querySelector("figcaption").textContent = snr > 900 ? words : `SNR ${words}`;
    });
  }
  draw();
}

export default { render };
