// The steps a decoder can be made of.
#pragma once

#include <memory>
#include <string>

#include "model/tokenizer/decoder.h"
#include "model/tokenizer/metaspace.h"
#include "model/tokenizer/pattern.h"

namespace pregate::model {

struct StripOptions {
  std::string content;  ///< One character.
  size_t num_at_start = 0;
  size_t num_at_end = 0;
};

/// Characters of GPT-2's alphabet to bytes, all tokens fused into one text.
std::unique_ptr<DecodeStep> make_byte_level_step();
/// Runs of tokens "<0x..>" to the text that their bytes are, or to one U+FFFD for each. A run is
/// held back to its end, because one bad byte spoils all of it.
std::unique_ptr<DecodeStep> make_byte_fallback_step();
/// All tokens become one.
std::unique_ptr<DecodeStep> make_fuse_step();
/// Up to so many characters off both ends of each token.
std::unique_ptr<DecodeStep> make_strip_step(const StripOptions& options);
std::unique_ptr<DecodeStep> make_metaspace_step(const MetaspaceOptions& options);
/// Within each token. A regular expression waits for the end of the token.
std::unique_ptr<DecodeStep> make_replace_step(std::shared_ptr<const Pattern> pattern,
                                              const std::string& content);
/// End-of-word suffixes to spaces, but not after the last token.
std::unique_ptr<DecodeStep> make_bpe_step(const std::string& suffix);
/// A space before each token that does not begin with `prefix`; `cleanup` removes spaces before
/// punctuation and English contractions.
std::unique_ptr<DecodeStep> make_word_piece_step(const std::string& prefix, bool cleanup);
/// A space before each token but the first.
std::unique_ptr<DecodeStep> make_join_step();

}  // namespace pregate::model
