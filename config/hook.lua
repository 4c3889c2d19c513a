-- What follows when subscribers connect, send a message, or leave: see evrelay-hook(7). As it stands
-- nothing does; with "log: {level: debug}" messages are logged.
--
-- After a change: systemctl reload evrelay. A script with an error is refused, and the old one stays.
-- Scripts to begin with are in /usr/share/doc/evrelay/examples.

event_route["evapi:message-received"] = function(evapi)
  xlog("L_DBG", evapi.srcaddr .. ":" .. evapi.srcport .. " says " .. evapi.msg)
end
