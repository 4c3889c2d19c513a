"""Scripts that several tests run, and how to talk to them."""

import wire

# Everybody hears what happens.
OBSERVE = """
event_route["evapi:connection-new"] = function(evapi)
  evapi.relay("new " .. evapi.conidx)
end
event_route["evapi:message-received"] = function(evapi)
  evapi.relay("message " .. evapi.conidx .. " " .. evapi.msg)
end
event_route["evapi:connection-closed"] = function(evapi)
  evapi.relay("closed " .. evapi.conidx .. " " .. evapi.reason)
end
"""

ECHO = """
event_route["evapi:message-received"] = function(evapi)
  evapi.reply(evapi.msg)
end
"""

# Calls the action that a message names, with what stands behind tabs, and says what it returned.
ACT = """
event_route["evapi:message-received"] = function(evapi)
  local verb, rest = evapi.msg:match("^([%l_]+)\\t?(.*)$")
  local data, tag = rest:match("^([^\\t]*)\\t(.*)$")
  local result
  if verb == "resume" then
    result = evapi.resume(rest:match("^([^\\t]*)\\t([^\\t]*)\\t(.*)$"))
  elseif tag then
    result = evapi[verb](data, tag)
  else
    result = evapi[verb](rest)
  end
  evapi.reply(verb .. " " .. tostring(result))
end
"""


def act(*words):
    """A message to ACT, for example act("multicast", b"data", b"tag")."""
    return wire.data(b"\t".join(w if isinstance(w, bytes) else w.encode() for w in words))
