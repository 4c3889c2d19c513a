// argv → the command → its exit code.

#include <cstdio>
#include <exception>
#include <new>
#include <variant>

#include "cli.h"
#include "client/clients.h"
#include "client/operate.h"
#include "client/pub.h"
#include "client/status.h"
#include "client/sub.h"
#include "daemon.h"

namespace {

struct RunCommand {
  int operator()(const evrelay::ServeOptions& options) const { return evrelay::Serve(options); }
  int operator()(const evrelay::PubOptions& options) const { return evrelay::RunPub(options); }
  int operator()(const evrelay::SubOptions& options) const { return evrelay::RunSub(options); }
  int operator()(const evrelay::StatusOptions& options) const {
    return evrelay::RunStatus(options);
  }
  int operator()(const evrelay::ClientsOptions& options) const {
    return evrelay::RunClients(options);
  }
  int operator()(const evrelay::CloseOptions& options) const { return evrelay::RunClose(options); }
  int operator()(const evrelay::ReloadOptions& options) const {
    return evrelay::RunReload(options);
  }
  int operator()(const evrelay::DrainOptions& options) const { return evrelay::RunDrain(options); }
};

}  // namespace

int main(int argc, char** argv) try {
  const auto parsed = evrelay::ParseCommandLine(argc, argv);
  if (const auto* exit = std::get_if<evrelay::CliExit>(&parsed)) {
    std::fputs(exit->out.c_str(), stdout);
    std::fputs(exit->err.c_str(), stderr);
    return exit->code;
  }
  return std::visit(RunCommand{}, std::get<evrelay::CommandLine>(parsed).command);
} catch (const std::bad_alloc&) {
  std::fputs("evrelay: out of memory\n", stderr);
  return 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "evrelay: %s\n", error.what());
  return 1;
}
