// Typesets every formula of a page of the docs, which arithmatex has marked: \(...\) in a line, \[...\] on a line of its own.
for (const e of document.querySelectorAll(".arithmatex")) {
  const text = e.textContent.trim();
  katex.render(text.slice(2, -2), e, { displayMode: text.startsWith("\\["), throwOnError: false });
}
