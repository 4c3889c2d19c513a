// PubInput: the events of `evrelay pub`, one after the other: its arguments, or the lines or
// netstrings of a descriptor, which is read only when asked for.
//
// Memory: one read, and one unfinished event of at most 1 GiB. Thread safety: none.

#ifndef EVRELAY_CLIENT_PUB_INPUT_H_
#define EVRELAY_CLIENT_PUB_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec/framing.h"

namespace evrelay {

class PubInput {
 public:
  // Without `data` events are read from `fd`.
  PubInput(const std::vector<std::string>& data, int fd, bool netstring);

  // The next event of what is at hand, valid until the next call; never empty. None: there is none
  // before a Read, or `ended`.
  std::optional<std::string_view> Next();

  // Reads once; only after Next found none.
  void Read();

  int fd() const { return fd_; }
  bool ended() const { return ended_; }

  // Once it has ended: what was wrong with it, after the events that it gave. Empty: nothing.
  const std::string& trouble() const { return trouble_; }
  std::uint64_t empty_lines() const { return empty_lines_; }

 private:
  std::optional<std::string_view> NextLine();
  std::optional<std::string_view> NextFrame();
  void End(std::string trouble);

  const std::vector<std::string>& data_;
  std::size_t next_data_ = 0;
  const int fd_;
  const bool netstring_;

  std::string buffer_;
  std::string_view unread_;  // of buffer_
  std::string line_;         // begun in an earlier read
  bool line_given_ = false;  // line_ is what Next returned last
  FrameReader reader_;
  std::uint64_t frames_ = 0;
  std::uint64_t empty_lines_ = 0;
  bool at_eof_ = false;
  bool ended_ = false;
  std::string trouble_;
};

// `3 events`, `1 event`.
std::string Count(std::uint64_t n, const std::string& noun);

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_PUB_INPUT_H_
