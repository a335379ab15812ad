/* What the components share. core/ui/component.py puts this before each component's own script. */

const decoder = new TextDecoder();

/* An element with its class and its text, which is never markup. */
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* A cell that a spreadsheet would take for a formula is kept as text. */
function cell(value) {
  const text = String(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/* A small button that saves what lines() returns as CSV: a list of cells for each line. */
function saveButton(title, file, lines) {
  const save = element("button", "csv", "csv");
  save.type = "button";
  save.title = title;
  save.onclick = () => {
    const content = lines().map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
    const link = element("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", content], { type: "text/csv" }));
    link.download = file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  return save;
}
