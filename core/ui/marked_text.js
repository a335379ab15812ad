/* A text whose tokens can be picked. It may grow: tokens that stand already are kept, so that nothing flickers and focus stays. */

const FAINT = 0.02; /* of the largest effect: what is smaller has no underline, as in the token view */

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".mt");
  const before = root.querySelector(".before");
  const list = root.querySelector(".tokens");
  before.textContent = data.before;
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", data.label);
  const changed = new Set(data.changed);
  data.pieces.forEach((piece, i) => {
    let node = list.children[i];
    if (!node) {
      node = element("span");
      node.tabIndex = i ? -1 : 0;
      node.setAttribute("role", "button");
      list.append(node);
    }
    if (node.textContent !== piece) node.textContent = piece;
    const effect = data.effects[i] ?? 0;
    node.className = ["t", changed.has(i) && "changed", i === data.picked && "on", effect >= FAINT && "up", effect <= -FAINT && "down"].filter(Boolean).join(" ");
    node.style.setProperty("--share", Math.sqrt(Math.abs(effect)).toFixed(3));
    node.title = data.hovers[i] ?? "";
    node.setAttribute("aria-pressed", String(i === data.picked));
    node.setAttribute("aria-label", `token ${i + 1}: ${data.names[i]}${changed.has(i) ? ", changed" : ""}`);
  });
  while (list.children.length > data.pieces.length) list.lastChild.remove();
  const place = (event) => [...list.children].indexOf(event.target.closest?.(".t"));
  list.onclick = (event) => {
    const at = place(event);
    if (at >= 0) setTriggerValue("token", at);
  };
  list.onkeydown = (event) => {
    const at = place(event);
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") setTriggerValue("token", at);
    else if (event.key === "ArrowRight") list.children[at + 1]?.focus();
    else if (event.key === "ArrowLeft") list.children[at - 1]?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
}
