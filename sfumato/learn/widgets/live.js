// A training as it goes: its loss, and what it can draw so far. The run sends, the page shows.

function render({ model, el }) {
  const tr = (text, values = {}) => (model.get("messages")?.[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const W = 480, H = 200, PAD = 34;
  el.innerHTML = `
    <style>
      .sf-live { font: 14px system-ui, sans-serif; display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; }
      .sf-live svg { flex: 1 1 300px; min-width: 0; max-width: ${W}px; height: auto; background: #faf9f7; border: 1px solid #e4e1dc; border-radius: 8px; }
      .sf-live img { width: 200px; image-rendering: pixelated; border-radius: 8px; border: 1px solid #e4e1dc; background: #e4e1dc; aspect-ratio: 1; }
      .sf-live text { font: 12px system-ui, sans-serif; fill: #6a7280; }
      .sf-live p { flex: 1 0 100%; margin: 0; opacity: 0.75; }
    </style>
    <div class="sf-live sf-scrub"><svg viewBox="0 0 ${W} ${H}" role="img" aria-label="${tr("loss against images seen")}">
        <text x="8" y="16">${tr("loss")}</text><text x="${W - 8}" y="${H - 8}" text-anchor="end">${tr("images seen")}</text>
        <text class="sf-top" x="8" y="32"></text><text class="sf-end" x="${PAD}" y="${H - 8}"></text>
        <polyline fill="none" stroke="#b4552d" stroke-width="2"></polyline></svg>
      <img alt="${tr("pictures that the network draws so far")}"><p aria-live="polite"></p></div>`;
  const curve = el.querySelector("polyline"), image = el.querySelector("img"), words = el.querySelector("p");

  function draw() {
    const losses = model.get("losses");
    if (losses.length) {
      const far = losses[losses.length - 1][0], all = losses.map(([, v]) => v), low = Math.min(...all), high = Math.max(...all);
      const x = (v) => PAD + v / far * (W - PAD - 12), y = (v) => H - PAD - (v - low) / (high - low || 1) * (H - PAD - 40);
      curve.setAttribute("points", losses.map(([n, v]) => `${x(n)},${y(v)}`).join(" "));
      el.querySelector(".sf-top").textContent = tr("{high} down to {low}", { high: high.toFixed(2), low: low.toFixed(2) });
      el.querySelector(".sf-end").textContent = far.toLocaleString("en");
    }
    image.hidden = !model.get("picture");
    if (model.get("picture")) image.src = `data:image/png;base64,${model.get("picture")}`;
    words.textContent = model.get("words");
  }
  for (const name of ["losses", "picture", "words"]) model.on(`change:${name}`, draw);
  draw();
}

export default { render };
