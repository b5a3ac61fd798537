#include "model/synthetic/tokenizer_files.h"

#include <fstream>
#include <vector>

#include <boost/json.hpp>

namespace pregate::model {
namespace {

namespace json = boost::json;

constexpr const char* kSpecialTokens[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
// English letters by frequency, so that the pieces made first are the likelier ones.
constexpr std::string_view kLetters = "etaoinshrdlcumwfgypbvkjxqz";

constexpr const char* kChatTemplate =
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

std::string utf8(uint32_t code_point) {
  if (code_point < 0x80) return std::string(1, char(code_point));
  return {char(0xC0 | code_point >> 6), char(0x80 | (code_point & 0x3F))};
}

/// The printable character that stands for a byte in byte-level BPE: itself where it is printable
/// Latin-1, else the next one from U+0100 on.
std::vector<std::string> byte_characters() {
  std::vector<std::string> characters;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool is_printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    characters.push_back(utf8(is_printable ? byte : next));
    if (!is_printable) ++next;
  }
  return characters;
}

struct Vocabulary {
  json::object ids;
  json::array merges;
};

/// Bytes, special tokens, then ever longer runs of letters with and without a space before them.
Vocabulary make_vocabulary(size_t size) {
  Vocabulary result;
  std::vector<std::string> pieces = byte_characters();
  for (size_t id = 0; id < pieces.size(); ++id) result.ids[pieces[id]] = id;
  for (const char* token : kSpecialTokens) result.ids[token] = result.ids.size();

  std::vector<std::string> stems{pieces[' ']};
  for (const char letter : kLetters) stems.emplace_back(1, letter);
  for (size_t s = 0; result.ids.size() < size; ++s) {
    for (size_t l = 0; l < kLetters.size() && result.ids.size() < size; ++l) {
      const std::string stem = stems[s], letter(1, kLetters[l]);
      result.ids[stem + letter] = result.ids.size();
      result.merges.emplace_back(stem + " " + letter);
      stems.push_back(stem + letter);
    }
  }
  return result;
}

json::object tokenizer_json(size_t vocab_size) {
  Vocabulary vocabulary = make_vocabulary(vocab_size);
  json::array added;
  for (TokenId id = kEndOfText; id <= kTurnEnd; ++id) {
    added.push_back({{"id", id},
                     {"content", kSpecialTokens[id - kEndOfText]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const json::object byte_level{{"type", "ByteLevel"},
                                {"add_prefix_space", false},
                                {"trim_offsets", true},
                                {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", std::move(vocabulary.ids)},
            {"merges", std::move(vocabulary.merges)}}}};
}

}  // namespace

Status write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (file.good()) return {};
  return fail(ErrorCode::kUnavailable, "{}: cannot write", path.string());
}

Status write_tokenizer(const std::filesystem::path& directory, size_t vocab_size) {
  PREGATE_TRY(
      write_text(directory / "tokenizer.json", json::serialize(tokenizer_json(vocab_size))));
  const json::object config{{"bos_token", nullptr},
                            {"eos_token", kSpecialTokens[kTurnEnd - kEndOfText]},
                            {"pad_token", kSpecialTokens[0]},
                            {"add_bos_token", false},
                            {"clean_up_tokenization_spaces", false},
                            {"tokenizer_class", "PreTrainedTokenizerFast"},
                            {"chat_template", kChatTemplate}};
  return write_text(directory / "tokenizer_config.json", json::serialize(config) + "\n");
}

}  // namespace pregate::model
