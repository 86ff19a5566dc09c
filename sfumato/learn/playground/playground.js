// The page: wishes go to the worker, states come back, are kept, and can be scrubbed without asking anybody.

const messages = JSON.parse(document.getElementById("messages").textContent);
const tr = (text, values = {}) => (messages[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
const form = document.querySelector("form"), wish = form.elements, line = document.querySelector(".about");
const time = document.querySelector("[name=time]"), at = document.querySelector("[name=at]");
const play = document.querySelector("[name=play]"), views = [...document.querySelectorAll(".grid")];
const worker = new Worker("worker.js", { type: "module" });
let about = null, states = [], noises = [], following = true, timer = null, waiting = null, turn = 0;

function say(text, wrong = false) {
  line.textContent = text;
  line.classList.toggle("wrong", wrong);
}

function options(select, names, chosen) {
  const before = select.value;
  select.replaceChildren(...names.map((name) => new Option(name.label ?? name, name.value ?? name)));
  select.value = names.some((name) => String(name.value ?? name) === before) ? before : chosen;
}

/** A model was opened: offer what it can do. */
function offer() {
  const samplers = Object.keys(about.samplers);
  options(wish.sampler, samplers, samplers[0]);
  offerSteps();
  options(wish.label, [{ label: tr("all in turn"), value: -1 }, ...about.classes.map((label, value) => ({ label, value }))], "-1");
  wish.label.closest("label").hidden = !about.denoiser.inputs.includes("y");
  wish.scale.closest("label").hidden = !about.denoiser.inputs.includes("scale");
}

function offerSteps() {
  const steps = Object.keys(about.samplers[wish.sampler.value]);
  options(wish.steps, steps, steps.includes("20") ? "20" : steps[0]);
}

function sample(keep = false) {
  if (!about) return;
  stop();
  const n = Number(wish.count.value), classes = Math.max(1, about.classes.length), label = Number(wish.label.value);
  states = [];
  noises = [];
  following = true;
  for (const view of views) {
    view.style.setProperty("--columns", Math.sqrt(n));
    view.replaceChildren(...Array.from({ length: n }, (_, i) => {
      const canvas = document.createElement("canvas");
      [, canvas.height, canvas.width] = about.shape;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", tr("picture {n}", { n: i + 1 }));
      return canvas;
    }));
  }
  turn += 1;
  worker.postMessage({
    kind: "sample", turn, sampler: wish.sampler.value, steps: wish.steps.value, seed: Number(wish.seed.value) || 0, keep,
    labels: Array.from({ length: n }, (_, i) => (label < 0 ? i % classes : label)), scale: Number(wish.scale.value),
  });
}

/** Numbers in [-1, 1] as pixels; noise that reaches further is drawn fainter. */
function paint(canvas, data, picture) {
  const [channels, height, width] = about.shape, size = height * width, from = picture * channels * size;
  let power = 0;
  for (let i = 0; i < channels * size; i += 1) power += data[from + i] ** 2;
  const reach = Math.max(1, Math.sqrt(power / (channels * size)));
  const pixels = new ImageData(width, height);
  for (let i = 0; i < size; i += 1) {
    for (let c = 0; c < 3; c += 1) {
      const value = data[from + (channels === 3 ? c : 0) * size + i] / reach;
      pixels.data[4 * i + c] = 127.5 * (value + 1);  // clamped
    }
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function draw() {
  const state = states[time.value];
  if (!state) return;
  for (const view of views) {
    const data = view.dataset.view === "x" ? state.x : state.x0 ?? state.x;
    [...view.children].forEach((canvas, i) => paint(canvas, data, i));
  }
  at.textContent = tr("step {k} of {last}", { k: time.value, last: state.of });
}

function stop() {
  clearInterval(timer);
  timer = null;
  play.textContent = tr("play");
}

worker.onerror = (event) => say(tr("The runtime did not start: {error}", { error: event.message ?? tr("see the console") }), true);

worker.onmessage = ({ data }) => {
  if (data.turn !== turn) return;  // of an older wish
  if (data.kind === "loaded") {
    about = data.about;
    offer();
    sample();
  } else if (data.kind === "error") {
    say(data.text, true);
    waiting?.reject(new Error(data.text));
  } else if (data.kind === "state") {
    states.push(data);
    if (data.noise) noises.push(data.noise);
    time.max = data.of;
    if (following) time.value = data.step;
    say(tr("{asked} of {total} evaluations, {time} ms each for {count} pictures",
      { asked: data.asked, total: data.total, time: data.milliseconds.toFixed(0), count: wish.count.value }));
    draw();
  } else {
    waiting?.resolve({ states, noises });
  }
};

function open() {
  about = null;
  document.querySelector(".model").textContent = models[wish.model.value].about;
  say(tr("Opening the model. Its graphs are written once, which takes ten seconds to a minute ..."));
  turn += 1;
  worker.postMessage({ kind: "load", turn, base: new URL(`model/${wish.model.value}`, location.href).href });
}

wish.model.onchange = open;
wish.sampler.onchange = () => { offerSteps(); sample(); };
for (const name of ["steps", "label", "count", "seed"]) wish[name].onchange = () => sample();
wish.scale.oninput = () => { wish.scaled.textContent = wish.scale.value; };
wish.scale.onchange = () => sample();
wish.again.onclick = () => { wish.seed.value = (Number(wish.seed.value) + 1) % 1000000; sample(); };
form.onsubmit = (event) => { event.preventDefault(); sample(); };
time.oninput = () => { following = false; stop(); draw(); };
play.onclick = () => {
  if (timer) return stop();
  following = false;
  if (Number(time.value) >= states.length - 1) time.value = 0;
  play.textContent = tr("stop");
  timer = setInterval(() => {
    time.value = Number(time.value) + 1;
    draw();
    if (Number(time.value) >= states.length - 1) stop();
  }, 80);
};

/** For tests and the curious: sample with the present wishes and get every state with the noise that was drawn. */
window.playground = {
  sample: () => new Promise((resolve, reject) => { waiting = { resolve, reject }; sample(true); }),
};

const models = await (await fetch(`models${location.search}`)).json();
wish.model.replaceChildren(...models.map(({ name, about: words }, i) => new Option(name, i)));
open();
