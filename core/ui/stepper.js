/* Two buttons and the keys k and j. Python says what is here and up to which count of ours that is; presses are told as so many steps
   from there. Until the page has followed, further presses wait and are told together: a page that is interrupted by each press would
   be drawn by none. Counts belong to one mount: after a new session, or on coming back to the page, counting starts again. */

const PATIENCE = 3000; // milliseconds after which a press is told although the one before was never followed

const steppers = new WeakMap();

export default function ({ data, parentElement, setStateValue }) {
  let stepper = steppers.get(parentElement);
  if (!stepper) {
    stepper = new Stepper(parentElement.querySelector(".stepper"));
    steppers.set(parentElement, stepper);
  }
  stepper.tell = (steps) => setStateValue("steps", steps);
  stepper.receive(data);
  return () => {
    stepper.leave();
    steppers.delete(parentElement);
  };
}

class Stepper {
  constructor(root) {
    this.begin();
    const previous = this.button("previous", "K", -1);
    const next = this.button("next", "J", 1);
    root.replaceChildren(previous, next);
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
  }

  button(label, key, by) {
    const button = element("button", label, label);
    button.type = "button";
    button.setAttribute("aria-keyshortcuts", key);
    const hint = element("kbd", "", key);
    hint.setAttribute("aria-hidden", "true");
    button.append(hint);
    button.onclick = () => this.press(by);
    return button;
  }

  begin() {
    this.mount = `${Date.now()}-${Math.random()}`;
    this.count = 0; // steps pressed
    this.base = 0; // of them, those that led to what is here
    this.told = 0; // messages sent; Python repeats the number of the last one it heard
    this.since = null; // when the message was sent that has not been followed yet
    this.known = false;
  }

  receive({ here, counted, parameter, written }) {
    this.here = here;
    if (counted?.mount === this.mount) {
      this.base = counted.count;
      this.known = true;
      if (counted.told === this.told) this.since = null;
      if (this.count !== this.base) this.tellSteps();
    } else if (this.known) this.begin();
    if (written !== here) rename(parameter, written, here);
  }

  press(by) {
    this.count += by;
    this.tellSteps();
  }

  tellSteps() {
    if (this.since !== null && Date.now() - this.since < PATIENCE) return;
    this.since = Date.now();
    this.told += 1;
    this.tell({ mount: this.mount, told: this.told, count: this.count, from: this.here, by: this.count - this.base });
  }

  key(event) {
    const by = { j: 1, k: -1 }[event.key.toLowerCase()];
    if (!by || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const target = event.composedPath()[0];
    if (target.isContentEditable || target.closest?.("input, textarea, select, [role=listbox], [role=combobox]")) return;
    event.preventDefault();
    this.press(by);
  }

  leave() {
    document.removeEventListener("keydown", this.onKey);
  }
}

/* Write a value of the address in its one right way. Only if it still stands there: the address may have moved on. */
function rename(parameter, written, right) {
  const query = new URLSearchParams(location.search);
  if (query.get(parameter) !== written) return;
  query.set(parameter, right);
  history.replaceState(history.state, "", `${location.pathname}?${query.toString().replaceAll("%2F", "/")}${location.hash}`);
}
