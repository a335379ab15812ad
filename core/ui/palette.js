/* A dialog that goes anywhere by a few letters. Pages are matched here; units and texts are asked for, and an answer is shown only for
   the text that stands in the field. Everything that anybody wrote goes through textContent. */

const PAUSE = 120; // milliseconds without a key before somebody is asked

const palettes = new WeakMap();

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  let palette = palettes.get(parentElement);
  if (!palette) {
    palette = new Palette(parentElement.querySelector(".palette"));
    palettes.set(parentElement, palette);
  }
  palette.ask = (asked) => setStateValue("asked", asked);
  palette.go = (target) => setTriggerValue("go", target);
  palette.receive(data);
  return () => {
    palette.leave();
    palettes.delete(parentElement);
  };
}

class Palette {
  constructor(root) {
    this.pages = [];
    this.items = [];
    this.at = 0;
    this.moved = false; // whether somebody chose an item with the arrows
    this.number = ""; // of the question under way or answered last; empty when there is nothing to ask
    this.answer = null;
    this.waiting = false; // Enter was pressed before the answer came
    this.timer = 0;
    this.session = `${Date.now()}-${Math.random()}`;
    this.count = 0;
    this.draw(root);
    this.onKey = (event) => this.shortcut(event);
    document.addEventListener("keydown", this.onKey);
  }

  draw(root) {
    const apple = /Mac|iPhone|iPad/.test(navigator.platform);
    const open = element("button", "open", "Go to…");
    open.type = "button";
    open.setAttribute("aria-haspopup", "dialog");
    open.setAttribute("aria-keyshortcuts", "Control+K Meta+K /");
    const hint = element("kbd", "", apple ? "⌘K" : "Ctrl K");
    hint.setAttribute("aria-hidden", "true");
    open.append(hint);
    open.onclick = () => this.open();
    this.dialog = element("dialog");
    this.dialog.setAttribute("role", "dialog");
    this.dialog.setAttribute("aria-modal", "true");
    this.dialog.setAttribute("aria-label", "Go to a page or a unit, or search");
    this.field = element("input");
    const said = {
      type: "text", role: "combobox", "aria-label": "Page, unit or words", "aria-controls": "found", "aria-expanded": "true",
      "aria-autocomplete": "list", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "300",
      placeholder: "A page, a unit such as mlp.5/91, or words",
    };
    for (const [name, value] of Object.entries(said)) this.field.setAttribute(name, value);
    this.list = element("ul");
    this.list.id = "found";
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "What can be opened");
    this.status = element("p");
    this.status.setAttribute("role", "status");
    this.dialog.append(this.field, this.list, this.status);
    this.field.oninput = () => this.typed();
    this.dialog.onkeydown = (event) => this.key(event);
    this.dialog.onclick = (event) => {
      if (event.target === this.dialog) this.dialog.close(); // beside what it shows
    };
    this.dialog.onclose = () => clearTimeout(this.timer);
    root.replaceChildren(open, this.dialog);
  }

  receive({ pages, answer }) {
    this.pages = pages;
    this.answer = answer;
    if (!this.dialog.open) return;
    this.show();
    if (this.waiting && !this.pending()) this.choose();
  }

  shortcut(event) {
    if (event.defaultPrevented || event.isComposing || event.altKey) return;
    const target = event.composedPath()[0];
    const typing = target.isContentEditable || target.closest?.("input, textarea, select, [role=listbox], [role=combobox]");
    const command = (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "k";
    const slash = event.key === "/" && !event.ctrlKey && !event.metaKey && !typing;
    if (!command && !slash) return;
    event.preventDefault();
    if (this.dialog.open) this.dialog.close();
    else this.open();
  }

  open() {
    if (this.dialog.open) return;
    this.field.value = "";
    this.dialog.showModal(); // the browser keeps the focus inside, and gives it back when the dialog is closed
    this.typed();
    this.field.focus();
  }

  typed() {
    clearTimeout(this.timer);
    this.moved = this.waiting = false;
    this.at = 0;
    const text = this.field.value.trim();
    this.number = "";
    if (text) {
      this.count += 1;
      this.number = `${this.session}-${this.count}`;
      const asked = { number: this.number, text };
      this.timer = setTimeout(() => this.ask(asked), PAUSE);
    }
    this.show();
  }

  pending() {
    return Boolean(this.number) && this.answer?.number !== this.number;
  }

  key(event) {
    event.stopPropagation(); // the page's own keys are not meant
    if (event.isComposing) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      this.dialog.close();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      this.moved = true;
      this.waiting = false;
      this.select(this.at + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (this.pending() && !this.moved) this.waiting = true;
      else this.choose();
      this.tell();
    }
  }

  found() {
    const text = this.field.value.trim();
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (page) => {
      const names = `${page.label} ${page.note}`.toLowerCase().split(/\s+/);
      return words.every((word) => names.some((name) => name.startsWith(word)));
    };
    const pages = this.pages.filter(fits).map((page) => ({ ...page, group: "Pages", text: [], target: { page: page.page } }));
    if (!text) return pages;
    const answered = this.pending() || !this.answer ? [] : this.answer.items;
    const units = answered.filter((item) => item.group === "Units");
    const others = answered.filter((item) => item.group !== "Units");
    const search = { group: "Search", label: `Search for “${text}”`, note: "", text: [], target: { search: text } };
    return [...units, ...pages, ...others, search];
  }

  show() {
    const chosen = this.moved ? JSON.stringify(this.items[this.at]?.target) : "";
    this.items = this.found();
    const nodes = [];
    let group = "";
    this.items.forEach((item, i) => {
      if (item.group !== group) {
        group = item.group;
        const head = element("li", "group", group);
        head.setAttribute("role", "presentation");
        nodes.push(head);
      }
      nodes.push(this.option(item, i));
    });
    this.list.replaceChildren(...nodes);
    const again = chosen ? this.items.findIndex((item) => JSON.stringify(item.target) === chosen) : 0;
    this.select(Math.max(0, again));
    this.tell();
  }

  option(item, i) {
    const node = element("li");
    node.id = `found-${i}`;
    node.setAttribute("role", "option");
    node.append(element("span", "", item.label), element("span", "note", item.note));
    if (item.text.length) {
      const text = element("span", "text");
      text.dir = "auto";
      for (const [piece, hit] of item.text) text.append(hit ? element("mark", "", piece) : piece);
      node.append(text);
    }
    node.onclick = () => {
      this.select(i);
      this.choose();
    };
    return node;
  }

  select(at) {
    if (!this.items.length) return;
    this.at = (at + this.items.length) % this.items.length;
    for (const node of this.list.querySelectorAll("[role=option]")) {
      const on = node.id === `found-${this.at}`;
      node.setAttribute("aria-selected", String(on));
      if (on) node.scrollIntoView({ block: "nearest" });
    }
    this.field.setAttribute("aria-activedescendant", `found-${this.at}`);
  }

  choose() {
    const item = this.items[this.at];
    this.waiting = false;
    if (!item) return;
    this.dialog.close();
    this.go(item.target);
  }

  tell() {
    const keys = "arrows choose · Enter opens · Esc closes";
    this.status.textContent = this.pending() ? "Looking…" : `${this.items.length} to open · ${keys}`;
  }

  leave() {
    clearTimeout(this.timer);
    document.removeEventListener("keydown", this.onKey);
    if (this.dialog.open) this.dialog.close();
  }
}
