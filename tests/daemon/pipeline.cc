// A producer that posts COUNT requests before it reads an answer; ASKS of them are suspended. Says
// what the answers add up to, how many were resumed, and how many never ended.
//
// usage: pipeline SOCKET COUNT ASKS

#include <evrelay/producer.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <set>
#include <string>
#include <utility>

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  evrelay::ProducerClient relay(argv[1]);
  const std::uint64_t count = std::strtoull(argv[2], nullptr, 10);
  const std::uint64_t step = count / std::strtoull(argv[3], nullptr, 10);
  for (std::uint64_t i = 0; i < count; ++i) {
    if (i % step == 0) {
      relay.Post({"async_relay", "ask $T(id_index) $T(id_label)", "600000"});
    } else {
      relay.Post({"relay", std::to_string(i)});
    }
  }
  std::uint64_t heard = 0;
  std::set<std::pair<std::string, std::string>> open;
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto answer = relay.ReadAnswer();
    if (i % step == 0) {
      open.insert({answer.at(1), answer.at(2)});
    } else {
      heard += std::stoull(answer.at(1));
    }
  }
  std::uint64_t resumed = 0;
  while (!open.empty()) {
    const auto answer = relay.WaitFinal(std::chrono::minutes(10));
    if (!answer) break;
    const auto& [index, label] = answer->request;
    open.erase({std::to_string(index), std::to_string(label)});
    if (answer->outcome == evrelay::ProducerClient::Outcome::kResumed) ++resumed;
  }
  std::cout << "heard " << heard << ", resumed " << resumed << ", open " << open.size() << "\n";
}
