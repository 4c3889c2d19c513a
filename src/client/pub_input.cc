#include "client/pub_input.h"

#include <errno.h>
#include <unistd.h>

#include <system_error>
#include <utility>

#include "evrelay/netstring.h"

namespace evrelay {

namespace {

constexpr std::size_t kReadSize = std::size_t{256} * 1024;

// No relay takes larger events; most take far less and say so.
constexpr std::uint32_t kMaxEvent = 1 << 30;

constexpr netstring::Limits kFrames{.data = kMaxEvent};

}  // namespace

PubInput::PubInput(const std::vector<std::string>& data, int fd, bool netstring)
    : data_(data), fd_(fd), netstring_(netstring) {}

std::optional<std::string_view> PubInput::Next() {
  if (ended_) return std::nullopt;
  if (data_.empty()) return netstring_ ? NextFrame() : NextLine();
  if (next_data_ < data_.size()) return data_[next_data_++];
  ended_ = true;
  return std::nullopt;
}

void PubInput::Read() {
  buffer_.resize(kReadSize);
  const ssize_t n = ::read(fd_, buffer_.data(), buffer_.size());
  if (n < 0) {
    if (errno != EINTR && errno != EAGAIN) {
      End("standard input: " + std::generic_category().message(errno));
    }
    return;
  }
  unread_ = std::string_view(buffer_).substr(0, static_cast<std::size_t>(n));
  at_eof_ = n == 0;
}

std::optional<std::string_view> PubInput::NextLine() {
  if (std::exchange(line_given_, false)) line_.clear();
  while (!unread_.empty()) {
    const std::size_t end = unread_.find('\n');
    const std::string_view piece = unread_.substr(0, end);
    if (line_.size() + piece.size() > kMaxEvent) {
      End("a line of the input is longer than 1 GiB, the most that an event can have");
      return std::nullopt;
    }
    if (end == std::string_view::npos) {
      line_ += piece;
      unread_ = {};
      return std::nullopt;
    }
    unread_.remove_prefix(end + 1);
    if (!line_.empty()) {
      line_given_ = true;
      return line_ += piece;
    }
    if (!piece.empty()) return piece;
    ++empty_lines_;
  }
  if (!at_eof_) return std::nullopt;
  if (!line_.empty()) {
    line_given_ = true;
    return line_;
  }
  ended_ = true;
  return std::nullopt;
}

std::optional<std::string_view> PubInput::NextFrame() {
  while (true) {
    const FrameReader::Item item = reader_.Next(unread_, kFrames);
    if (item.kind == FrameReader::Kind::kError) {
      End(std::string(Name(item.error)) + ": the input is no netstring after " +
          Count(frames_, "frame"));
      return std::nullopt;
    }
    if (item.kind == FrameReader::Kind::kMore) break;
    ++frames_;
    if (!item.payload.empty()) return item.payload;  // an empty frame is a keepalive
  }
  if (!at_eof_) return std::nullopt;
  End(reader_.Finish() == netstring::Error::kNone
          ? ""
          : "truncated: the input ends inside a frame, after " + Count(frames_, "frame"));
  return std::nullopt;
}

void PubInput::End(std::string trouble) {
  ended_ = true;
  trouble_ = std::move(trouble);
}

std::string Count(std::uint64_t n, const std::string& noun) {
  return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

}  // namespace evrelay
