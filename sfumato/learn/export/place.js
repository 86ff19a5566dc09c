// A switch of language keeps the place: between which titles or figures one is, how far, and what is folded open.
const LINE = 60;  // pixels from the top of the window, below the switch
const marks = () => [document.body, ...document.querySelectorAll("h1, h2, h3, summary, .sf-widget")];
const top = (element) => element.getBoundingClientRect().top;
const end = (shown, n) => shown[n + 1] ? top(shown[n + 1][1]) : document.body.getBoundingClientRect().bottom;
const shown = () => [...marks().entries()].filter(([, element]) => element.getClientRects().length);
const folds = () => [...document.querySelectorAll("details")];

function place() {
  const all = shown();
  const n = Math.max(0, all.findLastIndex(([, element]) => top(element) <= LINE));
  const [number, last] = all[n];
  const part = (LINE - top(last)) / Math.max(1, end(all, n) - top(last));
  const open = [...folds().entries()].filter(([, fold]) => fold.open).map(([i]) => i);
  return new URLSearchParams({ at: number, part: Math.min(1, part).toFixed(4), open });
}

function go(wanted) {
  for (const i of wanted.get("open").split(",")) if (i && folds()[i]) folds()[i].open = true;
  const all = shown();
  const n = all.findIndex(([number]) => number === Number(wanted.get("at")));
  if (n < 0) return;
  const start = top(all[n][1]);
  scrollBy({ top: start + Number(wanted.get("part")) * (end(all, n) - start) - LINE, behavior: "instant" });
}

for (const kind of ["pointerdown", "contextmenu", "click", "auxclick"]) {  // however the link is opened
  addEventListener(kind, (event) => {
    const link = event.target.closest?.("a[data-language]");
    if (link) link.hash = place();
  }, true);
}

const wanted = new URLSearchParams(location.hash.slice(1));
if (wanted.has("at") && wanted.has("open")) {
  history.replaceState(null, "", location.href.split("#")[0]);  // so that it is followed once
  const again = () => go(wanted);
  const stop = new AbortController();
  for (const kind of ["wheel", "touchstart", "pointerdown", "keydown"]) {
    addEventListener(kind, () => stop.abort(), { once: true, capture: true });
  }
  again();
  document.fonts.ready.then(() => { if (!stop.signal.aborted) again(); });
  addEventListener("load", () => { if (!stop.signal.aborted) again(); });
}
