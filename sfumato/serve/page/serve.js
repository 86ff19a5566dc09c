// The page of one model: wishes go to the server, lines of progress come back, and pictures can be painted over.

import { Brush } from "./brush.js";

const one = (selector) => document.querySelector(selector);
const sample = document.forms.sample, inpaint = document.forms.inpaint, wish = sample.elements, hole = inpaint.elements;
const line = one(".about"), bar = one("progress"), cancel = one("[name=cancel]");
const brush = new Brush(one(".brush"), one("figcaption"), () => Number(hole.width.value));
let about = null, asking = null, addresses = { sample: [], inpaint: [] };

function say(text, wrong = false) {
  line.textContent = text;
  line.classList.toggle("wrong", wrong);
}

function busy(share) {
  bar.hidden = cancel.hidden = share === null;
  bar.value = share ?? 0;
}

const number = (field) => (field.value === "" ? null : Number(field.value));
const classes = (field) => (field.value === "" || !about.classes.length ? [] : [field.value]);
const scale = (field) => (about.guided ? Number(field.value) : 1);
const address = (png) => `data:image/png;base64,${png}`;

/** Ask the server; what came before is cancelled. Resolves with the pictures, or null. */
async function ask(where, body) {
  asking?.abort();
  const mine = asking = new AbortController(), started = performance.now();
  busy(0);
  say("Sent ...");
  try {
    const answer = await fetch(where, {
      method: "POST", signal: mine.signal, body: JSON.stringify(body),
      headers: { "content-type": "application/json", accept: "application/x-ndjson" },
    });
    if (!answer.ok) {
      const text = await answer.text();
      throw new Error(text.startsWith("{") ? JSON.parse(text).error : text);
    }
    let found = null;
    for await (const state of lines(answer.body)) {
      if (mine.signal.aborted) break;
      if (state.error) throw new Error(state.error);
      if (state.state === "waiting") say(state.ahead ? `Waiting, ${state.ahead} before this one ...` : "Next ...");
      if (state.state === "running") {
        busy(state.share);
        say(`${Math.round(100 * state.share)} % done, ${((performance.now() - started) / 1000).toFixed(0)} s`);
      }
      if (state.state === "done") found = state;
    }
    if (!found) throw new Error("The server ended before the pictures were made.");
    say(`${found.pictures.length || body.n} pictures in ${found.seconds} s`);
    return found;
  } catch (error) {
    if (mine === asking) say(mine.signal.aborted ? "Cancelled." : error.message, !mine.signal.aborted);
    return null;
  } finally {
    if (mine === asking) {
      asking = null;
      busy(null);
    }
  }
}

/** The JSON lines of a stream. */
async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const pieces = (rest + part.value).split("\n");
    rest = pieces.pop();
    for (const piece of pieces) if (piece) yield JSON.parse(piece);
  }
}

/** A link that saves a PNG. */
function link(kind, text, png, name) {
  const made = document.createElement("a"), bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));
  made.href = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  made.download = `${about.name.replace(/[^\w.-]+/g, "-")}-${name}.png`;
  made.textContent = text;
  addresses[kind].push(made.href);
  return made;
}

/** Show what was made; a picture that is chosen goes under the brush and can be saved. */
function show(kind, found) {
  const grid = one(`.pictures[data-of=${kind}]`), links = one(`.links[data-of=${kind}]`), seed = `seed${found.settings.seed}`;
  addresses[kind].forEach((old) => URL.revokeObjectURL(old));
  addresses[kind] = [];
  const sheet = link(kind, "Save all as one picture", found.sheet, `${kind}-${seed}`);
  const named = (i) => found.settings.classes[i % Math.max(1, found.settings.classes.length)];
  links.replaceChildren(sheet);
  if (!found.pictures.length) {
    const image = new Image();
    Object.assign(image, { className: "sheet", alt: "the points", src: address(found.sheet) });
    grid.replaceChildren(image);
    return;
  }
  grid.replaceChildren(...found.pictures.map((png, i) => {
    const button = document.createElement("button"), image = new Image();
    image.alt = `picture ${i + 1}${named(i) ? `, ${named(i)}` : ""}`;
    image.src = address(png);
    Object.assign(button, { type: "button", title: named(i) ?? "" });
    button.setAttribute("aria-pressed", "false");
    button.append(image);
    button.onclick = () => {
      document.querySelectorAll(".pictures button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      links.replaceChildren(sheet, link(kind, `Save picture ${i + 1}`, png, `${kind}-${seed}-${i + 1}`));
      if (!about.inpaints) return;
      brush.show(image);
      if (kind === "sample" && named(i)) hole.label.value = named(i);
    };
    return button;
  }));
}

async function make() {
  if (!about || !sample.reportValidity()) return;
  const found = await ask("api/sample", {
    n: number(wish.n), steps: number(wish.steps), sampler: wish.sampler.value, seed: number(wish.seed),
    classes: classes(wish.label), text: about.reads && wish.text.value.trim() ? [wish.text.value] : [], scale: scale(wish.scale),
  });
  if (!found) return;
  show("sample", found);
  if (about.inpaints && !brush.picture) one(".pictures[data-of=sample] button img").decode().then(() => one(".pictures[data-of=sample] button").click());
}

async function fill() {
  if (!inpaint.reportValidity()) return;
  if (!brush.picture) return say("Choose a picture first.", true);
  if (!brush.share) return say("Paint over what shall be made anew first.", true);
  const found = await ask("api/inpaint", {
    image: brush.image(), mask: brush.mask(), draws: number(hole.draws), steps: number(hole.steps),
    seed: number(hole.seed), classes: classes(hole.label), scale: scale(hole.scale),
  });
  if (found) show("inpaint", found);
}

async function own() {
  const [file] = hole.file.files;
  if (!file) return;
  try {
    const image = await createImageBitmap(file);
    brush.show(image);
    image.close();
    say(`${file.name} is under the brush, cut to ${brush.canvas.width}x${brush.canvas.height} pixels.`);
  } catch {
    say(`${file.name} is no picture that this browser can read.`, true);
  }
}

/** Offer what the model can do. */
function offer() {
  const [, height, width] = about.shape;
  document.title = `sfumato: ${about.name}`;
  one(".name").textContent = about.name;
  Object.assign(wish.n, { max: about.most.n, value: about.defaults.sample.n });
  Object.assign(hole.draws, { max: about.most.draws, value: Math.min(about.defaults.inpaint.draws, about.most.draws) });
  wish.steps.max = hole.steps.max = about.most.steps;
  wish.sampler.replaceChildren(...about.samplers.map(({ name }) => new Option(name)));
  wish.label.replaceChildren(new Option("all in turn", ""), ...about.classes.map((name) => new Option(name)));
  hole.label.replaceChildren(...about.classes.map((name) => new Option(name)));
  document.querySelectorAll("[data-needs=classes]").forEach((label) => { label.hidden = !about.classes.length; });
  document.querySelectorAll("[data-needs=reads]").forEach((label) => { label.hidden = !about.reads; });
  document.querySelectorAll("[data-needs=guided]").forEach((label) => { label.hidden = !about.guided; });
  usual();
  one(".inpaint").hidden = !about.inpaints;
  if (about.inpaints) brush.size(height, width);
}

/** The usual number of steps of the chosen sampler, where nothing is typed. */
function usual() {
  wish.steps.placeholder = about.samplers.find(({ name }) => name === wish.sampler.value)?.steps ?? "every level";
}

for (const fields of [wish, hole]) fields.scale.oninput = () => { fields.scaled.value = fields.scale.value; };
wish.sampler.onchange = usual;
wish.again.onclick = () => { wish.seed.value = (Number(wish.seed.value) + 1) % 1e9; make(); };
sample.onsubmit = (event) => { event.preventDefault(); make(); };
inpaint.onsubmit = (event) => { event.preventDefault(); fill(); };
hole.file.onchange = own;
hole.clear.onclick = () => brush.clear();
cancel.onclick = () => asking?.abort();

try {
  const answer = await fetch("api/model");
  if (!answer.ok) throw new Error(await answer.text());
  about = await answer.json();
  offer();
  say("Choose, then sample.");
} catch (error) {
  say(`The server does not answer: ${error.message}`, true);
}
