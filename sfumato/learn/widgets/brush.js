// A picture with a brush: paint over what shall be forgotten. The mask goes back when the brush is lifted.

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function render({ model, el }) {
  const tr = (text, values = {}) => (model.get("messages")?.[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
  el.innerHTML = `
    <style>
      .sf-brush { font: 14px system-ui, sans-serif; max-width: 260px; }
      .sf-brush canvas { width: 100%; image-rendering: pixelated; border-radius: 8px; border: 1px solid #e4e1dc; touch-action: none; cursor: crosshair; display: block; }
      .sf-brush canvas:focus-visible { outline: 2px solid #b4552d; outline-offset: 2px; }
      .sf-brush .sf-tools { display: flex; gap: 10px; align-items: center; margin-top: 8px; flex-wrap: wrap; }
      .sf-brush input { flex: 1 1 80px; min-width: 70px; accent-color: #b4552d; }
      .sf-brush button { border: 1px solid #b4552d; background: none; color: #b4552d; border-radius: 6px; padding: 4px 14px; cursor: pointer; }
      .sf-brush p { margin: 6px 0 0; opacity: 0.75; }
    </style>
    <div class="sf-brush sf-scrub">
      <canvas tabindex="0" role="application" aria-label="${tr("paint over what shall be forgotten: drag, or arrow keys and space")}"></canvas>
      <div class="sf-tools"><label>${tr("brush")} <input type="range" min="1" max="6" value="3" aria-label="${tr("width of the brush")}"></label>
        <button type="button">${tr("clear")}</button></div>
      <p aria-live="polite"></p></div>`;
  const canvas = el.querySelector("canvas"), pen = canvas.getContext("2d"), width = el.querySelector("input");
  const line = el.querySelector("p"), side = model.get("side"), channels = model.get("channels");
  let picture = bytes(model.get("picture")), hole = bytes(model.get("hole")), cursor = null;
  canvas.width = canvas.height = side;

  function draw() {
    const pixels = new ImageData(side, side);
    for (let p = 0; p < side * side; p += 1) {
      for (let c = 0; c < 3; c += 1) {
        const value = picture[channels * p + (channels === 3 ? c : 0)];
        pixels.data[4 * p + c] = hole[p] ? [180, 85, 45][c] : value;
      }
      pixels.data[4 * p + 3] = 255;
    }
    if (cursor) {
      const p = cursor[1] * side + cursor[0];
      for (let c = 0; c < 3; c += 1) pixels.data[4 * p + c] = 20;
    }
    pen.putImageData(pixels, 0, 0);
    const share = hole.reduce((a, b) => a + b, 0) / hole.length;
    line.textContent = tr("{share} % forgotten", { share: Math.round(100 * share) });
  }

  function paint(x, y) {
    const r = width.value / 1;
    for (let j = Math.max(0, Math.ceil(y - r)); j <= Math.min(side - 1, y + r); j += 1) {
      for (let i = Math.max(0, Math.ceil(x - r)); i <= Math.min(side - 1, x + r); i += 1) {
        if ((i - x) ** 2 + (j - y) ** 2 <= r * r) hole[j * side + i] = 1;
      }
    }
    draw();
  }

  function tell() {
    model.set("hole", btoa(String.fromCharCode(...hole)));
    model.save_changes();
  }

  function follow(event) {
    const box = canvas.getBoundingClientRect();
    paint((event.clientX - box.left) / box.width * side - 0.5, (event.clientY - box.top) / box.height * side - 0.5);
  }

  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); follow(event); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
  canvas.addEventListener("pointerup", tell);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    cursor = (cursor ?? [side >> 1, side >> 1]).map((v, c) => Math.min(Math.max(v + step[c], 0), side - 1));
    if (event.key !== " ") return draw();
    paint(...cursor);
    tell();
  });
  el.querySelector("button").addEventListener("click", () => { hole.fill(0); draw(); tell(); });
  model.on("change:picture", () => { picture = bytes(model.get("picture")); draw(); });
  draw();
}

export default { render };
