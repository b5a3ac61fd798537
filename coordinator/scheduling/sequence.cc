#include "coordinator/scheduling/sequence.h"

#include <algorithm>

namespace pregate::coordinator {

Sequence::Sequence(std::shared_ptr<ActiveRequest> request, uint32_t choice, const TextRules& rules,
                   uint64_t seed)
    : tokens(request->request.prompt),
      num_prompt(tokens.size()),
      request_(std::move(request)),
      choice_(choice),
      rules_(rules),
      sampler_(request_->request.sampling, tokens, seed, choice),
      decoder_(*rules.tokenizer, tokens, request_->request.skip_special_tokens),
      scanner_(request_->request.stop, request_->request.include_stop_in_text) {
  pending_.choice = choice;
}

void Sequence::choose_token(std::span<const float> logits) {
  chosen_ = sampler_.sample(logits, rules_.vocab_size, forbidden_tokens());
}

void Sequence::append_chosen() {
  append_text(std::move(chosen_));
  check_length();
}

bool Sequence::is_eos(TokenId token) const {
  return !request_->request.ignore_eos && std::ranges::count(rules_.eos_tokens, token) > 0;
}

// Before min_tokens, what would end the text must not be chosen.
std::vector<TokenId> Sequence::forbidden_tokens() const {
  const GenerationRequest& request = request_->request;
  if (num_generated() >= request.min_tokens) return {};
  std::vector<TokenId> forbidden = request.stop_token_ids;
  if (!request.ignore_eos) {
    forbidden.insert(forbidden.end(), rules_.eos_tokens.begin(), rules_.eos_tokens.end());
  }
  return forbidden;
}

void Sequence::append_text(engine::SampledToken sampled) {
  const GenerationRequest& request = request_->request;
  const TokenId token = sampled.token;
  tokens.push_back(token);
  GeneratedToken generated{token, sampled.logprob, std::move(sampled.top), {}};
  const bool is_stop_token = std::ranges::count(request.stop_token_ids, token) > 0;
  const bool ends = is_eos(token) || is_stop_token;
  if (!ends || request.include_stop_in_text) generated.text = decoder_.push(token);

  // A stop string that ends before min_tokens does not count.
  const bool scan = num_generated() >= request.min_tokens;
  pending_.text += scan ? scanner_.push(generated.text) : generated.text;
  if (scanner_.matched()) {
    pending_.finish = FinishReason::kStop;
    pending_.stop_reason = *scanner_.matched();
  } else if (ends) {
    pending_.finish = FinishReason::kStop;
    if (!is_eos(token)) pending_.stop_reason = token;
  }
  pending_.tokens.push_back(std::move(generated));
}

void Sequence::check_length() {
  const bool full =
      num_generated() >= request_->request.max_tokens || tokens.size() >= rules_.max_model_len;
  if (full && !finished()) pending_.finish = FinishReason::kLength;
  if (!finished() || scanner_.matched()) return;
  std::string rest = decoder_.finish();
  pending_.text += scanner_.push(rest);
  pending_.text += scanner_.finish();
  if (!pending_.tokens.empty()) pending_.tokens.back().text += rest;
}

void Sequence::append_prompt_logprob(size_t position, std::span<const float> logits) {
  if (pending_.prompt_tokens.empty()) {
    pending_.prompt_tokens.push_back({tokens[0], 0.0f, {}, token_text(tokens[0])});
  }
  if (position + 1 >= num_prompt) return;
  const TokenId token = tokens[position + 1];
  auto report = engine::report_logprobs(logits.first(rules_.vocab_size), token,
                                        *request_->request.prompt_logprobs);
  pending_.prompt_tokens.push_back(
      {token, report.logprob, std::move(report.top), token_text(token)});
}

std::string Sequence::token_text(TokenId token) const {
  return rules_.tokenizer->decode({&token, 1}, /*skip_special_tokens=*/false);
}

void Sequence::finish_without_tokens() { pending_.finish = FinishReason::kLength; }

void Sequence::flush() {
  if (request_->failed) return;
  if (pending_.tokens.empty() && !finished()) return;
  GenerationChunk chunk = std::move(pending_);
  pending_ = {};
  pending_.choice = choice_;
  pending_.finish = chunk.finish;
  request_->listener.on_chunk(std::move(chunk));
}

}  // namespace pregate::coordinator
