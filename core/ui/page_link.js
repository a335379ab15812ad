/* Copies the address of the page. Where the browser keeps the clipboard to itself (a plain http address on a network is no secure context),
   the older way is tried, and at last the address is shown in a field, selected, for the person to copy. */

const SAID = 2500; // milliseconds that “copied” stands there
const instances = new WeakMap();

export default function ({ parentElement }) {
  if (instances.has(parentElement)) return;
  instances.set(parentElement, true);
  const root = parentElement.querySelector(".page-link");
  const button = element("button", "", "copy link");
  button.type = "button";
  button.title = "Copies the address of this page as it stands";
  const said = element("span", "said");
  said.setAttribute("role", "status");
  const field = element("input");
  field.readOnly = true;
  field.hidden = true;
  field.setAttribute("aria-label", "The address of this page");
  field.onblur = () => (field.hidden = true);
  let timer = 0;
  const say = (text) => {
    said.textContent = text;
    clearTimeout(timer);
    if (text) timer = setTimeout(() => (said.textContent = ""), SAID);
  };
  button.onclick = async () => {
    const address = location.href.replaceAll("%2F", "/");
    say("");
    if (await copied(address, field)) {
      field.hidden = true;
      button.focus();
      say("copied");
    } else {
      say("copy it from the field");
      field.focus();
      field.select();
    }
  };
  root.replaceChildren(said, field, button);
  return () => instances.delete(parentElement);
}

async function copied(address, field) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(address);
      return true;
    } catch (refused) {
      if (!(refused instanceof DOMException)) throw refused;
    }
  }
  field.value = address;
  field.hidden = false;
  field.focus();
  field.select();
  return document.execCommand("copy");
}
