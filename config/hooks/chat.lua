-- A chat. The first message of a subscriber is its name, which becomes its tag. What it says then
-- is for everyone, "@bob text" for bob alone.

event_route["evapi:connection-new"] = function(evapi)
  evapi.reply("Your name?")
end

event_route["evapi:message-received"] = function(evapi)
  if not evapi.tag then
    if evapi.set_tag(evapi.msg) then
      evapi.relay(evapi.msg .. " has come")
    else
      evapi.reply("A name has at most 63 bytes. Your name?")
    end
    return
  end

  local to, text = evapi.msg:match("^@(%S+) (.+)$")
  if to then
    evapi.multicast(evapi.tag .. " to you: " .. text, to)
  else
    evapi.relay(evapi.tag .. ": " .. evapi.msg)
  end
end

event_route["evapi:connection-closed"] = function(evapi)
  if evapi.tag then
    evapi.relay(evapi.tag .. " has left")
  end
end
