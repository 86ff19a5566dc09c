// Walks an exported model from noise to pictures, beside the page, so that the page stays quick.
// Everything that is mathematics of diffusion lies in the graphs, which the library wrote; here is only the loop.

import * as ort from "./runtime/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;

let about = null, base = "", turn = 0;
const sessions = new Map();

/** Independent normal numbers that belong to (seed, picture, draw): the same picture in whatever company. */
export function normal(seed, picture, draw, count, out, from) {
  let a = seed, b = picture, c = draw, d = 1;
  const uniform = () => {  // sfc32 (Doty-Humphrey)
    const sum = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum | 0;
    return (sum >>> 0) / 4294967296;
  };
  for (let i = 0; i < 16; i += 1) uniform();  // until the three numbers are mixed
  for (let i = 0; i < count; i += 2) {  // Box and Muller
    const length = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
    out[from + i] = length * Math.cos(angle);
    if (i + 1 < count) out[from + i + 1] = length * Math.sin(angle);
  }
}

async function run(name, feeds) {
  if (!sessions.has(name)) sessions.set(name, await ort.InferenceSession.create(`${base}/${name}.onnx`));
  return sessions.get(name).run(feeds);
}

async function load({ base: where }) {
  for (const session of sessions.values()) await session.release();
  sessions.clear();
  base = where;
  const answer = await fetch(`${base}/about.json`);
  if (!answer.ok) throw new Error(await answer.text());
  about = await answer.json();
  await run("prior", { z: noise(1, 0, 0) });
  return about;
}

function noise(n, seed, draw) {
  const size = about.shape.reduce((a, b) => a * b), data = new Float32Array(n * size);
  for (let i = 0; i < n; i += 1) normal(seed, i, draw, size, data, i * size);
  return new ort.Tensor("float32", data, [n, ...about.shape]);
}

/** One walk; tells of every state. With `keep`, the noise is told too. */
async function walk({ turn: mine, sampler, steps, seed, labels, scale, keep }) {
  const n = labels.length, plan = about.samplers[sampler][steps];
  const time = (value) => about.time === "int64"
    ? new ort.Tensor("int64", BigInt64Array.from({ length: n }, () => BigInt(value)), [n])
    : new ort.Tensor("float64", Float64Array.from({ length: n }, () => value), [n]);
  const values = {
    y: new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [n]),
    scale: new ort.Tensor("float32", Float32Array.from({ length: n }, () => scale), [n]),
  };
  const pick = (names) => Object.fromEntries(names.map((name) => [name, values[name]]));
  let draw = 0, asked = 0, busy = 0;
  values.z = noise(n, seed, draw++);
  values.x = Object.values(await run("prior", { z: values.z }))[0];
  const tell = (i, drawn) => postMessage({
    kind: "state", turn: mine, step: i, of: plan.length, x: values.x.data, x0: values.x0?.data,
    noise: keep && drawn ? values.z.data : null, milliseconds: asked ? busy / asked : 0, asked,
  });
  tell(0, true);
  for (const [i, [number, t, s]] of plan.entries()) {
    const kernel = about.kernels[number].inputs;
    values.t = time(t);
    values.s = time(s);
    const believes = kernel.some((name) => about.belief.outputs.includes(name));
    const began = performance.now();
    if (believes) Object.assign(values, await run("belief", pick(about.belief.inputs)));
    const drawn = kernel.includes("z");
    if (drawn) values.z = noise(n, seed, draw++);
    values.x = Object.values(await run(`kernel-${number}`, pick(kernel)))[0];
    busy += performance.now() - began;
    asked += 1;
    await new Promise((next) => setTimeout(next, 0));  // let a newer wish in
    if (mine !== turn) return;
    tell(i + 1, drawn);
  }
  postMessage({ kind: "done", turn: mine });
}

let queue = Promise.resolve();

onmessage = ({ data }) => {
  turn = data.turn;  // at once, so that a walk which is under way ends
  queue = queue.then(async () => {
    if (data.turn !== turn) return;
    try {
      if (data.kind === "load") postMessage({ kind: "loaded", turn: data.turn, about: await load(data) });
      else await walk(data);
    } catch (error) {
      postMessage({ kind: "error", turn: data.turn, text: error.message });
    }
  });
};
