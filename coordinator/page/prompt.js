// The prompt box: one request at a time, its answer streamed.

import { element, failure, headers, number, say } from "./common.js";

function lost(error) {
  if (error.name === "AbortError") throw error;
  throw new Error("The connection to the server was lost, or none could be made.");
}

/** The JSON of a stream of server-sent events, one value after another, without [DONE]. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read().catch(lost);
    if (done) throw new Error("The answer was cut off: the connection ended.");
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

function requestOf(name, chat, prompt, maxTokens) {
  const common = {
    model: name,
    max_tokens: maxTokens,
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  };
  if (!chat) return ["v1/completions", { ...common, prompt }];
  const messages = [{ role: "user", content: prompt }];
  return ["v1/chat/completions", { ...common, messages }];
}

export class PromptBox {
  /** `refused()`: called when the server does not take the key. */
  constructor(refused) {
    this.refused = refused;
    this.name = "";
    this.running = null; // AbortController
    element("prompt-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    element("stop").addEventListener("click", () => this.stop());
    element("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.send();
      if (event.key === "Escape") this.stop();
    });
  }

  /** What is served: {name, chat, context_tokens}. */
  serve(name, model) {
    this.name = name;
    if (this.chat === model.chat) return;
    this.chat = model.chat;
    const mode = element("mode");
    mode.value = model.chat ? "chat" : "text";
    mode.options[0].disabled = !model.chat;
    element("max-tokens").max = model.context_tokens;
  }

  stop() {
    this.running?.abort();
  }

  async send() {
    const prompt = element("prompt").value;
    if (this.running || !element("prompt-form").reportValidity()) return;
    if (prompt === "") return element("prompt").focus();
    const maxTokens = Number(element("max-tokens").value) || 200;
    const request = requestOf(this.name, element("mode").value === "chat", prompt, maxTokens);
    this.begin();
    try {
      await this.receive(...request);
    } catch (error) {
      if (error.name === "AbortError") this.ended = "stopped";
      else say("prompt-error", error.message);
    } finally {
      this.end();
    }
  }

  begin() {
    this.running = new AbortController();
    this.started = performance.now();
    this.firstAt = this.lastAt = null;
    this.tokens = 0;
    this.ended = "";
    say("prompt-error", "");
    element("answer").textContent = "";
    element("answer").hidden = false;
    // Read out once it is whole.
    element("answer").setAttribute("aria-busy", "true");
    element("answer-note").textContent = "waiting for the first token";
    element("send").disabled = true;
    element("stop").disabled = false;
  }

  end() {
    if (document.activeElement === element("stop")) element("send").focus();
    this.running = null;
    element("answer").setAttribute("aria-busy", "false");
    element("answer").hidden = element("answer").textContent === "";
    element("send").disabled = false;
    element("stop").disabled = true;
    this.note();
  }

  async receive(path, body) {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers() },
      body: JSON.stringify(body),
      signal: this.running.signal,
    }).catch(lost);
    if (response.status === 401) this.refused();
    if (!response.ok) throw await failure(response);
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      this.take(event);
    }
  }

  take(event) {
    if (event.usage) this.tokens = event.usage.completion_tokens;
    const choice = event.choices[0];
    if (!choice) return; // The last event: usage only.
    this.lastAt = performance.now();
    this.firstAt ??= this.lastAt;
    if (choice.finish_reason === "length") this.ended = "reached the limit";
    const answer = element("answer");
    const atEnd = answer.scrollHeight - answer.scrollTop - answer.clientHeight < 40;
    answer.append(choice.delta?.content ?? choice.text ?? "");
    if (atEnd) answer.scrollTop = answer.scrollHeight;
    this.note();
  }

  note() {
    if (this.firstAt === null) {
      element("answer-note").textContent = this.ended;
      return;
    }
    const parts = [`${number(this.tokens)} ${this.tokens === 1 ? "token" : "tokens"}`];
    const seconds = (this.lastAt - this.firstAt) / 1000;
    if (this.tokens > 1 && seconds > 0) {
      parts.push(`${number((this.tokens - 1) / seconds)} tokens/s`);
    }
    parts.push(`first after ${number(this.firstAt - this.started)} ms`);
    if (this.ended) parts.push(this.ended);
    element("answer-note").textContent = parts.join(" · ");
  }
}
