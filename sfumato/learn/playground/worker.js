// Samples an exported model from noise to pictures, beside the page, so that the page stays quick.
// Everything that is mathematics of diffusion lies in the graphs and plans, which the library wrote; here is the loop.

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
  const size = about.noise.reduce((a, b) => a * b), data = new Float32Array(n * size);
  for (let i = 0; i < n; i += 1) normal(seed, i, draw, size, data, i * size);
  return new ort.Tensor("float32", data, [n, ...about.noise]);
}

/** A register's new value: the sum of others, each with its weight. */
function weighted(row, values) {
  const sum = new Float32Array(values.x.data.length);
  for (const [name, weight] of Object.entries(row)) {
    const data = values[name].data;
    for (let i = 0; i < sum.length; i += 1) sum[i] += weight * data[i];
  }
  return new ort.Tensor("float32", sum, values.x.dims);
}

/** What x is as an image in [-1, 1]. */
async function image(x) {
  return about.decode ? Object.values(await run("decode", { x }))[0].data : x.data;
}

/** One trajectory; tells of every state. With `keep`, the noise is told too. */
async function sample({ turn: mine, sampler, steps, seed, labels, scale, keep }) {
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
  const total = plan.flat().filter((step) => step.ask).length;
  const tell = async (i, drawn) => postMessage({
    kind: "state", turn: mine, step: i, of: plan.length, x: await image(values.x),
    x0: values.x0 && (await image(values.x0)), noise: keep && drawn ? values.z.data : null,
    milliseconds: asked ? busy / asked : 0, asked, total,
  });
  await tell(0, true);
  for (const [i, move] of plan.entries()) {
    let drawn = false;
    for (const step of move) {
      const kernel = step.kernel === undefined ? [] : about.kernels[step.kernel].inputs;
      values.t = time(step.t);
      values.s = time(step.s);
      const began = performance.now();
      if (step.ask) {
        Object.assign(values, await run("denoiser", pick(about.denoiser.inputs)));
        asked += 1;
      }
      if (kernel.includes("z") || Object.values(step.set).some((row) => "z" in row)) {
        values.z = noise(n, seed, draw++);
        drawn = true;
      }
      const found = Object.fromEntries(Object.entries(step.set).map(([name, row]) => [name, weighted(row, values)]));
      if (kernel.length) found.x = Object.values(await run(`kernel-${step.kernel}`, pick(kernel)))[0];
      Object.assign(values, found);
      busy += performance.now() - began;
    }
    await new Promise((next) => setTimeout(next, 0));  // let a newer wish in
    if (mine !== turn) return;
    await tell(i + 1, drawn);
  }
  postMessage({ kind: "done", turn: mine });
}

let queue = Promise.resolve();

onmessage = ({ data }) => {
  turn = data.turn;  // at once, so that a trajectory which is under way ends
  queue = queue.then(async () => {
    if (data.turn !== turn) return;
    try {
      if (data.kind === "load") postMessage({ kind: "loaded", turn: data.turn, about: await load(data) });
      else await sample(data);
    } catch (error) {
      postMessage({ kind: "error", turn: data.turn, text: error.message });
    }
  });
};
