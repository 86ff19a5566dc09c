// An exercise: an editor, what the check says, hints, the solution once it may be seen, and the figure of a right answer.
// The server keeps the code and judges it (answering.py); a request that is dropped ends the answer's process.

const STYLE = `
  .sf-answer { font: 14px/1.5 system-ui, sans-serif; max-width: 100%; --c-key: #8a3ea8; --c-text: #2d6a4f; --c-note: #6a7280;
    --c-number: #1d6f8a; --c-line: color-mix(in srgb, currentcolor 22%, transparent); --c-accent: #b4552d; }
  @media (prefers-color-scheme: dark) { .sf-answer { --c-key: #c99be0; --c-text: #86c9a4; --c-note: #9aa0a8; --c-number: #7cc0d8;
    --c-accent: #e08a5f; } }
  .sf-answer .sf-editor { display: grid; grid-template-columns: auto 1fr; overflow: auto; max-height: 34rem;
    border: 1px solid var(--c-line); border-radius: 8px; }
  .sf-answer .sf-editor:focus-within { border-color: var(--c-accent); }
  .sf-answer .sf-editor pre, .sf-answer .sf-editor textarea { font: 13px/1.55 ui-monospace, "DejaVu Sans Mono", monospace;
    white-space: pre; margin: 0; padding: 8px 10px; tab-size: 4; border: 0; letter-spacing: 0; }
  .sf-answer .sf-numbers { text-align: right; color: var(--c-note); border-right: 1px solid var(--c-line); user-select: none; }
  .sf-answer .sf-both { display: grid; min-width: max-content; }
  .sf-answer .sf-both > * { grid-area: 1 / 1; min-width: 100%; box-sizing: border-box; }
  .sf-answer textarea { background: none; color: transparent; caret-color: var(--c-accent); resize: none; overflow: hidden;
    outline: none; display: block; }
  .sf-answer textarea::selection { background: color-mix(in srgb, var(--c-accent) 30%, transparent); }
  .sf-answer .k { color: var(--c-key); } .sf-answer .s { color: var(--c-text); } .sf-answer .n { color: var(--c-number); }
  .sf-answer .c { color: var(--c-note); font-style: italic; }
  .sf-answer .sf-keys { opacity: 0.75; margin: 4px 0 8px; font-size: 12.5px; }
  .sf-answer .sf-buttons { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
  .sf-answer button { font: inherit; border: 1px solid var(--c-line); background: none; color: inherit; border-radius: 6px;
    padding: 4px 14px; cursor: pointer; }
  .sf-answer button.sf-check, .sf-answer button.sf-stop { border-color: var(--c-accent); color: var(--c-accent); }
  .sf-answer button:focus-visible { outline: 2px solid var(--c-accent); outline-offset: 1px; }
  .sf-answer [hidden] { display: none !important; }
  .sf-answer .sf-said { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 4px solid var(--c-line); padding: 4px 12px;
    margin: 10px 0; }
  .sf-answer .sf-said.right { border-color: #2d8a5f; } .sf-answer .sf-said.wrong { border-color: #c2412d; }
  .sf-answer .sf-printed { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 16rem; overflow: auto; margin: 10px 0;
    padding: 4px 12px; border-left: 4px solid var(--c-line); font: 13px/1.5 ui-monospace, monospace; }
  .sf-answer .sf-solution pre { overflow-x: auto; font: 13px/1.55 ui-monospace, monospace; }`;

const body = (tr) => `
  <div class="sf-editor"><pre class="sf-numbers" aria-hidden="true"></pre><div class="sf-both"><pre aria-hidden="true"></pre>
    <textarea spellcheck="false" autocapitalize="off" autocomplete="off" autocorrect="off" wrap="off"></textarea></div></div>
  <p class="sf-keys">${tr("Tab indents; Escape, then Tab, leaves the editor. Ctrl+Enter checks. What you type is kept.")}</p>
  <div class="sf-buttons"><button type="button" class="sf-check"></button>
    <button type="button" class="sf-stop" hidden>${tr("Stop")}</button><button type="button" class="sf-hint" hidden></button>
    <button type="button" class="sf-fresh">${tr("Start over")}</button><span class="sf-state"></span></div>
  <div class="sf-told" role="status"></div><pre class="sf-printed" hidden tabindex="0" aria-label="${tr("what it printed")}"></pre>
  <div class="sf-hints" role="status"></div>
  <details class="sf-solution" hidden><summary>${tr("A solution")}</summary><pre></pre></details>
  <div class="sf-figure"></div>`;

const TOKENS = new RegExp([
  /(?<c>#.*)/, /(?<s>"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)/,
  /(?<k>\b(?:def|return|for|in|if|elif|else|while|with|import|from|as|class|lambda|not|and|or|None|True|False|assert|raise|try|except|pass|break|continue|yield|is|global|nonlocal|finally|del)\b)/,
  /(?<n>\b\d[\d_]*\.?\d*(?:e[+-]?\d+)?\b)/].map((part) => part.source).join("|"), "g");

const escaped = (text) => text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);

/** Python as HTML with coloured words */
function coloured(code) {
  let out = "", at = 0;
  for (const found of code.matchAll(TOKENS)) {
    const kind = Object.keys(found.groups).find((name) => found.groups[name] !== undefined);
    out += `${escaped(code.slice(at, found.index))}<span class="${kind}">${escaped(found[0])}</span>`;
    at = found.index + found[0].length;
  }
  return `${out}${escaped(code.slice(at))}\n`;
}

function render({ model, el }) {
  const key = model.get("key"), root = location.pathname.split("/lesson/")[0];
  const tr = (text, values = {}) => (model.get("messages")?.[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const language = new URLSearchParams(location.search).get("lang"), address = `${root}/answer/${key}${language ? `?lang=${language}` : ""}`;
  el.innerHTML = `<style>${STYLE}</style><div class="sf-answer">${body(tr)}</div>`;
  const part = (name) => el.querySelector(name);
  const text = part("textarea"), check = part(".sf-check"), stop = part(".sf-stop"), hint = part(".sf-hint");
  let state = null, later = null, running = null, shown = 0, leave = false, clear = null;
  check.textContent = tr("Check {key}", { key });
  text.setAttribute("aria-label", tr("your code for {key}", { key }));

  async function ask(method, body, further = {}) {
    const sent = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const reply = await fetch(address, { method, ...sent, ...further });
    if (!reply.ok) throw new Error(await reply.text());
    return reply.json();
  }

  function draw() {
    part(".sf-both pre").innerHTML = coloured(text.value);
    const lines = text.value.split("\n").length;
    part(".sf-numbers").textContent = Array.from({ length: lines }, (_, i) => i + 1).join("\n");
  }

  function tell(words, kind = "") {
    part(".sf-told").innerHTML = words ? `<div class="sf-said ${kind}">${escaped(words)}</div>` : "";
  }

  function show(found) {  // everything but the code, which is the learner's
    state = found;
    part(".sf-state").textContent = state.solved ? tr("solved") : "";
    hint.hidden = shown >= state.hints.length;
    hint.textContent = tr("Hint {n} of {all}", { n: shown + 1, all: state.hints.length });
    part(".sf-hints").innerHTML = state.hints.slice(0, shown).map((h) => `<div class="sf-said">${escaped(h)}</div>`).join("");
    part(".sf-solution").hidden = !state.solution;
    part(".sf-solution pre").innerHTML = state.solution ? coloured(state.solution) : "";
  }

  function keep(further) {
    clearTimeout(later);
    if (later === null) return;
    later = null;
    ask("PUT", { code: text.value }, further).catch((error) => tell(tr("Not kept: {error}", { error: error.message }), "wrong"));
  }

  async function figure(found) {
    clear?.();
    clear = null;
    part(".sf-figure").replaceChildren();
    if (!found) return;
    const module = await import(`${root}/figure/${found.module}`);
    clear = module.default.render({ model: { get: (name) => found.traits[name], on: () => {} }, el: part(".sf-figure") });
  }

  async function judge() {
    if (running || !state) return;
    running = new AbortController();
    const began = Date.now(), waiting = tr("Your code is running");
    const clock = setInterval(() => { part(".sf-state").textContent = `${waiting}: ${Math.round((Date.now() - began) / 1000)} s`; }, 500);
    part(".sf-state").textContent = waiting;
    check.hidden = true;
    stop.hidden = false;
    tell("");
    part(".sf-printed").hidden = true;
    clearTimeout(later);
    later = null;
    try {
      const found = await ask("POST", { code: text.value }, { signal: running.signal });
      tell(found.words, found.right ? "right" : "wrong");
      part(".sf-printed").hidden = !found.printed;
      part(".sf-printed").textContent = `${tr("It printed:")}\n${found.printed}`;
      show(found);
      await figure(found.figure);
    } catch (error) {
      tell(error.name === "AbortError" ? tr("Stopped.") : tr("It could not be checked: {error}", { error: error.message }), "wrong");
    } finally {
      clearInterval(clock);
      part(".sf-state").textContent = state.solved ? tr("solved") : "";
      check.hidden = false;
      stop.hidden = true;
      running = null;
    }
  }

  function typed(words) {  // as if typed, so that it can be undone
    text.focus();
    if (!document.execCommand("insertText", false, words)) text.setRangeText(words, text.selectionStart, text.selectionEnd, "end");
    changed();
  }

  function changed() {
    draw();
    clearTimeout(later);
    later = setTimeout(keep, 400);
  }

  function pressed(event) {
    if (event.key === "Escape") leave = true;
    else if (event.key === "Tab" && !event.shiftKey && !leave) {
      event.preventDefault();
      typed("    ");
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      judge();
    } else if (event.key === "Enter") {
      const line = text.value.slice(0, text.selectionStart).split("\n").pop();
      event.preventDefault();
      typed(`\n${line.match(/^ */)[0]}${line.trimEnd().endsWith(":") ? "    " : ""}`);
    } else leave = false;
    event.stopPropagation();  // the page has keys of its own
  }

  text.addEventListener("input", changed);
  text.addEventListener("keydown", pressed);
  text.addEventListener("blur", () => { leave = false; keep(); });
  check.addEventListener("click", judge);
  stop.addEventListener("click", () => running?.abort());
  hint.addEventListener("click", () => { shown += 1; show(state); });
  part(".sf-fresh").addEventListener("click", async () => {
    text.select();
    typed(state.stub);
    clearTimeout(later);
    later = null;
    tell(tr("Back to the start. Ctrl+Z in the editor brings your code back."));
    part(".sf-printed").hidden = true;
    figure(null);
    show(await ask("DELETE"));
  });
  const leaving = () => keep({ keepalive: true });
  addEventListener("pagehide", leaving);
  ask("GET").then((found) => {
    text.value = found.code;
    draw();
    show(found);
  }).catch((error) => tell(tr("This exercise could not be loaded: {error}", { error: error.message }), "wrong"));
  return () => {
    leaving();
    removeEventListener("pagehide", leaving);
    running?.abort();
    clear?.();
  };
}

export default { render };
