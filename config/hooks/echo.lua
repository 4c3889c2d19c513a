-- Each subscriber gets back what it says:
--   printf '5:hello,' | nc -N 127.0.0.1 8448

event_route["evapi:message-received"] = function(evapi)
  evapi.reply(evapi.msg)
end
