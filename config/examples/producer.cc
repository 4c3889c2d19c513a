// Somebody rings: tells all subscribers, and has one of them say who opens.
//
//   g++ $(pkg-config --cflags evrelay) producer.cc -o producer
//   ./producer [SOCKET]
//
// The question is answered by a subscriber, and the answer is brought here by the relay's script;
// evrelay-protocol(7) has examples of both.

#include <evrelay/producer.h>

#include <chrono>
#include <exception>
#include <iostream>
#include <string>

using evrelay::ProducerClient;

int main(int argc, char** argv) {
  try {
    ProducerClient relay(argc > 1 ? argv[1] : "");

    // An event, and nothing to wait for.
    relay.Send("somebody rings");

    // An event for those who have a tag. 0 is an answer, not an error.
    std::cout << "guards: " << relay.Multicast("look at the door", "guard") << "\n";

    // Many events, whose answers are read together.
    for (const char* floor : {"ground floor", "first floor", "attic"}) {
      relay.Post({"relay", std::string("bell: ") + floor});
    }
    for (int i = 0; i < 3; ++i) std::cout << "heard by: " << relay.ReadAnswer()[1] << "\n";

    // A question. The relay puts its numbers into the event; they come back with the answer.
    const ProducerClient::Suspended question =
        relay.AsyncRelay("who opens? $T(id_index) $T(id_label)", std::chrono::seconds(20));
    const auto answer = relay.WaitFinal(question, std::chrono::seconds(25));
    if (!answer) {
      std::cout << "the relay does not answer\n";
    } else if (answer->outcome == ProducerClient::Outcome::kResumed) {
      std::cout << answer->data << " opens\n";
    } else {
      std::cout << "nobody opens\n";
    }
    return 0;
  } catch (const ProducerClient::Error& error) {
    std::cerr << "the relay says " << error.what() << "\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
  }
  return 1;
}
