/* The review queue: one unit at a time, judged by keys or buttons. The browser goes on by itself to units that were made ready, and tells
   Python what was done: each act with a number, the unit that was on the screen, and the unit that is there since. Acts are told again, all
   that were not confirmed in one message, until Python has heard them; so none is lost however busy it is, and none meets another unit. */

const PATIENCE = 3000; // milliseconds after which acts are told again although the message before was never answered
const MOST_CARDS = 400;
const MEANINGS = { 1: "says nothing to me", 2: "a vague hint", 3: "partly clear", 4: "clear", 5: "clear and worth showing" };
const KEYS = [
  ["1 – 5", "rate, and go on to the next unit that you have neither rated nor labelled"],
  ["n", "write a note: Ctrl+Enter saves and goes on, Ctrl+Shift+Enter saves and stays, Esc leaves the field and keeps what you typed"],
  ["l", "give a label: Enter saves and stays, Ctrl+Enter saves and goes on, Esc leaves"],
  ["u", "take back the last thing done here, and go back to it"],
  ["s or space", "pass over: the unit comes again at the end, or with the next visit"],
  ["j, k", "look at the next or the previous unit of the list, done or not"],
  ["r", "an interesting unit by chance that is not done"],
  ["?", "these keys"],
];
const instances = new WeakMap();

export default function ({ data, parentElement, setStateValue }) {
  let review = instances.get(parentElement);
  if (!review) {
    review = new Review(parentElement.querySelector(".review"));
    instances.set(parentElement, review);
  }
  review.send = (told) => setStateValue("acts", told);
  review.receive(JSON.parse(decoder.decode(data)));
  return () => {
    review.leave();
    instances.delete(parentElement);
  };
}

class Review {
  constructor(root) {
    this.root = root;
    this.mount = `${Date.now()}-${Math.random()}`;
    this.number = 0; // of the last act
    this.unheard = []; // acts that Python has not confirmed
    this.messages = 0;
    this.since = null; // when the message was sent that has not been answered yet
    this.cards = new Map();
    this.drafts = new Map(); // unit -> a note that was begun
    this.back = []; // units on which something was done, the last one last
    this.now = null; // the card on the screen
    this.waiting = true; // whether Python says what comes next
    this.plan = { ahead: [], around: [], chance: "" };
    this.build();
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey, true);
  }

  leave() {
    document.removeEventListener("keydown", this.onKey, true);
    clearTimeout(this.timer);
  }

  /* What Python says: which acts it heard, which units may come next, and their cards. */

  receive(data) {
    const other = data.queue !== this.queue;
    if (other) {
      this.queue = data.queue;
      this.cards.clear();
      this.back = [];
      this.waiting = true;
    }
    for (const card of data.cards) this.keep(card, data.written[card.unit]);
    this.plan = data;
    if (data.mount === this.mount) {
      this.unheard = this.unheard.filter((act) => act.number > data.heard);
      if (data.heard >= this.toldUpTo) this.since = null;
    }
    if (this.unheard.length) this.tell();
    else if (this.waiting) this.show(data.at);
    else if (this.now && data.written[this.now.unit]) this.drawWritten();
    this.drawProgress();
    this.trouble.textContent = data.trouble;
    this.trouble.hidden = !data.trouble;
    this.labels.replaceChildren(...data.labels.map((label) => Object.assign(element("option"), { value: label })));
  }

  keep(card, written) {
    this.cards.delete(card.unit);
    this.cards.set(card.unit, { ...card, written });
    if (this.now?.unit === card.unit) this.now = this.cards.get(card.unit);
    for (const unit of this.cards.keys()) {
      if (this.cards.size <= MOST_CARDS) break;
      if (unit !== this.now?.unit) this.cards.delete(unit);
    }
  }

  /* What a person does. */

  act(kind, { value = "", to = "", unit = this.now?.unit ?? "" } = {}) {
    const target = to && this.cards.has(to) ? to : "";
    this.number += 1;
    this.unheard.push({ number: this.number, kind, unit, value, to: target });
    if (target) this.show(target);
    else this.wait();
    this.tell();
  }

  judge(kind, value, said, stay = false) {
    if (!this.now) return;
    const { unit, title, written } = this.now;
    if (kind === "rate" && written) written.rating = Number(value);
    this.back.push(unit);
    const pending = this.pending();
    const to = stay ? unit : this.plan.ahead.find((name) => name !== unit && !pending.has(name) && this.cards.has(name));
    this.act(kind, { value, to });
    this.say(`${said}: ${title}.`);
    if (stay) this.drawWritten();
  }

  /* Units that are done or passed over, although Python has not said so yet. */
  pending() {
    const found = new Set();
    for (const act of this.unheard) {
      if (act.kind === "undo") found.delete(act.unit);
      else if (["rate", "label", "skip"].includes(act.kind) || (act.kind === "note" && act.to !== act.unit)) found.add(act.unit);
    }
    return found;
  }

  move(by) {
    const place = this.now ? this.plan.around.indexOf(this.now.unit) : -1;
    const to = place < 0 || this.waiting ? "" : this.plan.around[place + by];
    this.act(to ? "show" : by > 0 ? "next" : "previous", { to });
  }

  chance() {
    const to = this.plan.chance === this.now?.unit || this.pending().has(this.plan.chance) ? "" : this.plan.chance;
    this.act("random", { to });
  }

  undo() {
    const unit = this.back.pop() ?? "";
    const card = this.cards.get(unit);
    this.act("undo", { unit, to: unit });
    this.say(card ? `Taken back: ${card.title}.` : "Taking back…");
  }

  tell() {
    if (this.since !== null && Date.now() - this.since < PATIENCE) return;
    this.since = Date.now();
    this.messages += 1;
    this.toldUpTo = this.number;
    this.send({ mount: this.mount, message: this.messages, acts: this.unheard });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.unheard.length && this.tell(), PATIENCE + 50);
  }

  key(event) {
    if (event.defaultPrevented || event.isComposing) return;
    const target = event.composedPath()[0];
    if (target === this.note || target === this.label) return this.keyInField(event, target);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.isContentEditable || target.closest?.("input, textarea, select, [role=listbox], [role=combobox], [role=dialog], dialog")) return;
    const does = this.does(event.key, target);
    if (!does) return;
    event.preventDefault();
    event.stopPropagation(); // letters mean other things to Streamlit
    if (!event.repeat || "jk".includes(event.key)) does();
  }

  does(key, target) {
    const onButton = target.closest?.("button, a, summary, label");
    if (/^[1-5]$/.test(key)) return () => this.judge("rate", key, `Rated ${key}`);
    if (key === " ") return onButton ? null : () => this.judge("skip", "", "Passed over");
    if (key === "Escape") return this.help.hidden ? null : () => this.toggleHelp();
    return {
      n: () => this.openField(this.note),
      l: () => this.openField(this.label),
      u: () => this.undo(),
      j: () => this.move(1),
      k: () => this.move(-1),
      r: () => this.chance(),
      s: () => this.judge("skip", "", "Passed over"),
      "?": () => this.toggleHelp(),
    }[key.toLowerCase()];
  }

  keyInField(event, field) {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
    const save = event.key === "Enter" && (event.ctrlKey || event.metaKey || field === this.label);
    if (save) {
      event.preventDefault();
      const stay = field === this.label ? !(event.ctrlKey || event.metaKey) : event.shiftKey;
      this.save(field, stay);
    } else if (event.key === "Escape") {
      event.preventDefault();
      this.leaveField(field);
    }
  }

  save(field, stay) {
    const text = field.value.trim();
    if (!text) return this.leaveField(field);
    field.value = "";
    if (field === this.note) this.drafts.delete(this.now?.unit);
    this.leaveField(field);
    this.judge(field === this.note ? "note" : "label", text, field === this.note ? "Note saved" : `Labelled “${text}”`, stay);
  }

  openField(field) {
    if (!this.now) return;
    field.form.hidden = false;
    field.focus();
  }

  leaveField(field) {
    field.form.hidden = !field.value.trim();
    field.blur();
  }

  toggleHelp() {
    this.help.hidden = !this.help.hidden;
    this.helpButton.setAttribute("aria-expanded", String(!this.help.hidden));
  }

  /* What is seen. */

  build() {
    this.progress = element("div", "rv-progress");
    this.bar = element("i");
    const track = element("div", "rv-track");
    track.setAttribute("role", "progressbar");
    track.setAttribute("aria-label", "Units done");
    track.append(this.bar);
    this.track = track;
    this.trouble = element("p", "rv-trouble");
    this.trouble.setAttribute("role", "alert");
    this.trouble.hidden = true;
    this.title = element("h2");
    this.facts = element("p", "rv-facts");
    this.status = element("p", "rv-status");
    this.status.setAttribute("role", "status");
    this.said = element("div", "rv-said");
    this.side = element("div", "rv-side");
    this.view = this.buildRecords();
    const head = element("div", "rv-head");
    head.append(this.title, this.facts);
    const body = element("div", "rv-body");
    body.append(this.records, this.side);
    this.body = body;
    this.root.replaceChildren(
      track, this.progress, this.trouble, head, this.buildTools(), this.status, this.buildHelp(), this.buildNote(), this.buildLabel(), this.said, body,
    );
  }

  buildRecords() {
    this.records = element("div", "tv");
    const tip = element("div", "tip");
    tip.setAttribute("role", "tooltip");
    tip.hidden = true;
    this.records.append(element("div", "bar"), element("div", "list"), tip);
    const view = new TokenView(this.records);
    view.tell = view.fire = () => {};
    return view;
  }

  buildTools() {
    const tools = element("div", "rv-tools");
    const stars = element("div", "rv-stars");
    stars.setAttribute("role", "group");
    stars.setAttribute("aria-label", "Your rating");
    this.stars = [1, 2, 3, 4, 5].map((value) => {
      const button = this.button(String(value), String(value), () => this.judge("rate", String(value), `Rated ${value}`));
      button.title = MEANINGS[value];
      button.lastChild.remove(); // the key is the label itself
      return button;
    });
    stars.append(...this.stars);
    this.helpButton = this.button("keys", "?", () => this.toggleHelp());
    this.helpButton.setAttribute("aria-expanded", "false");
    this.needsUnit = [
      ...this.stars,
      this.button("note", "N", () => this.openField(this.note)),
      this.button("label", "L", () => this.openField(this.label)),
      this.button("pass over", "S", () => this.judge("skip", "", "Passed over")),
    ];
    tools.append(
      stars,
      ...this.needsUnit.slice(5),
      this.button("undo", "U", () => this.undo()),
      this.button("previous", "K", () => this.move(-1)),
      this.button("next", "J", () => this.move(1)),
      this.button("by chance", "R", () => this.chance()),
      this.helpButton,
    );
    return tools;
  }

  button(label, key, press) {
    const button = element("button", "rv-button", label);
    button.type = "button";
    button.setAttribute("aria-keyshortcuts", key);
    const hint = element("kbd", "", key);
    hint.setAttribute("aria-hidden", "true");
    button.append(hint);
    button.onclick = press;
    return button;
  }

  buildHelp() {
    this.help = element("dl", "rv-help");
    this.help.hidden = true;
    for (const [key, what] of KEYS) this.help.append(element("dt", "", key), element("dd", "", what));
    return this.help;
  }

  buildNote() {
    const form = this.form("Note", (this.note = element("textarea")), "save and go on", "Ctrl+Enter");
    this.note.rows = 3;
    this.note.maxLength = 20000;
    this.note.placeholder = "Markdown. Ctrl+Enter saves and goes on; Esc leaves.";
    this.note.oninput = () => this.now && this.drafts.set(this.now.unit, this.note.value);
    return form;
  }

  buildLabel() {
    const form = this.form("Label", (this.label = element("input")), "save", "Enter");
    this.labels = element("datalist");
    this.labels.id = "rv-labels";
    this.label.maxLength = 60;
    this.label.setAttribute("list", "rv-labels");
    this.label.placeholder = "Enter saves; Ctrl+Enter saves and goes on; Esc leaves.";
    form.append(this.labels);
    return form;
  }

  form(name, field, verb, key) {
    const form = element("form", "rv-form");
    form.hidden = true;
    const label = element("label", "", name);
    label.append(field);
    const save = this.button(verb, key, () => this.save(field, field === this.label));
    form.append(label, save);
    form.onsubmit = (event) => event.preventDefault();
    return form;
  }

  show(unit) {
    const card = this.cards.get(unit);
    if (this.now && this.now.unit !== unit && this.note.value.trim()) this.drafts.set(this.now.unit, this.note.value);
    this.waiting = false;
    this.root.classList.remove("rv-waits");
    this.now = card ?? null;
    for (const button of this.needsUnit) button.disabled = !card;
    this.note.value = card ? (this.drafts.get(unit) ?? "") : "";
    this.note.form.hidden = !this.note.value.trim();
    this.label.value = "";
    this.label.form.hidden = true;
    if (card) this.drawCard(card);
    else this.drawEnd();
    this.drawWritten();
  }

  wait() {
    this.waiting = true;
    this.root.classList.add("rv-waits");
  }

  say(text) {
    this.status.textContent = text;
  }

  drawProgress() {
    const { done, total, passed, pace } = this.plan;
    this.track.setAttribute("aria-valuemax", total);
    this.track.setAttribute("aria-valuenow", done);
    this.bar.style.width = `${(100 * done) / Math.max(1, total)}%`;
    const said = [`${done.toLocaleString("en")} of ${total.toLocaleString("en")} done`];
    if (passed) said.push(`${passed} passed over`);
    if (pace) said.push(`${pace.toLocaleString("en")} an hour`);
    this.progress.textContent = said.join(" · ");
  }

  drawCard(card) {
    const link = element("a", "", card.title);
    link.href = card.address;
    link.target = "_blank";
    link.title = "Open the unit's page in another tab";
    this.title.replaceChildren(link);
    this.facts.textContent = (card.facts ?? []).join(" · ");
    this.records.hidden = !card.records;
    if (card.records) this.view.receive({ view: { window: "16", scale: "unit", curve: "linear" }, body: card.records });
    this.said.replaceChildren(...(card.wrong ? [element("p", "rv-trouble", card.wrong)] : this.drawSaid(card.said)));
  }

  drawEnd() {
    this.title.replaceChildren(element("span", "", this.plan.total ? "Every unit of this list is done" : "No unit is in this list"));
    this.facts.textContent = this.plan.total ? "Each has your rating or a label of yours. K leads back to the units of the list." : "";
    this.said.replaceChildren();
    this.records.hidden = true;
  }

  drawSaid(said) {
    if (!said) return [element("p", "rv-none", "No explanation yet.")];
    const words = element("p", "rv-words");
    for (const [text, strong] of said.words) words.append(strong ? element("b", "", text) : text);
    return [words, element("p", "rv-facts", said.facts.join(" · "))];
  }

  drawWritten() {
    const { written, tokens } = this.now ?? {};
    for (const [place, star] of this.stars.entries()) star.setAttribute("aria-pressed", String(written?.rating === place + 1));
    const parts = [];
    if (tokens?.length) {
      const list = element("ul", "rv-tokens");
      for (const [text, mean] of tokens) {
        const item = element("li");
        item.append(element("span", "rv-token", text), element("span", "rv-mean", mean));
        list.append(item);
      }
      parts.push(element("h3", "", "Top tokens"), list);
    }
    if (written?.said.length) {
      parts.push(element("h3", "", "Written"));
      for (const { kind, text, by, when } of written.said) {
        const line = element("p", "rv-written");
        line.append(element("span", "rv-kind", `${kind} · ${by} · ${when}`), element("bdi", "", text));
        parts.push(line);
      }
    }
    this.side.replaceChildren(...parts);
  }
}
