// What the page's scripts share: elements, numbers, the key.

const KEY = "pregate-api-key";

export const element = (id) => document.getElementById(id);

/** Three digits or so, as people read them. */
export function number(value) {
  const digits = Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

export const percent = (share) => `${number(share * 100)} %`;

export function milliseconds(seconds) {
  return seconds >= 10 ? `${number(seconds)} s` : `${number(seconds * 1000)} ms`;
}

/** Shows an error where it belongs; nothing to say hides it. */
export function say(id, message) {
  if (element(id).textContent !== message) element(id).textContent = message;
  element(id).hidden = message === "";
}

export const key = () => sessionStorage.getItem(KEY);
export const useKey = (text) => sessionStorage.setItem(KEY, text);
export const forgetKey = () => sessionStorage.removeItem(KEY);
export const headers = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

/** What the server says is wrong. */
export async function failure(response) {
  const text = await response.text();
  try {
    return new Error(JSON.parse(text).error.message);
  } catch {
    return new Error(`the server answered ${response.status} ${text.slice(0, 200)}`);
  }
}
