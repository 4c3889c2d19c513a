-- Subscribers ask in JSON, and are answered in JSON:
--   {"command": "ping"}                                         {"ok": true}
--   {"command": "subscribe", "tag": "calls"}                    {"ok": true}
--   {"command": "publish", "tag": "calls", "data": "ringing"}   {"ok": true}
--   {"command": "resume", "index": 0, "label": 4711, "data": "accept"}   {"ok": true}
-- Each has one tag: from then on it gets what is published for that, besides what producers relay
-- to everyone. An empty tag ends that. To resume is to answer a producer that has suspended its
-- request, with the numbers from the event that asked.
--   printf '19:{"command": "ping"},' | nc -N 127.0.0.1 8448

local commands = {}

function commands.ping()
  return true
end

function commands.subscribe(request)
  if type(request.tag) ~= "string" then
    return false, "a tag is a text"
  end
  if not evapi.set_tag(request.tag) then
    return false, "a tag has at most 63 bytes"
  end
  return true
end

function commands.publish(request)
  if type(request.tag) ~= "string" or type(request.data) ~= "string" then
    return false, "tag and data are texts"
  end
  if not evapi.multicast(request.data, request.tag) then
    return false, "tag and data must not be empty, nor data larger than max_event"
  end
  return true
end

function commands.resume(request)
  if type(request.data) ~= "string" then
    return false, "data is a text"
  end
  if not evapi.resume(request.index, request.label, request.data) then
    return false, "nothing waits under these numbers"
  end
  return true
end

local function answer(message)
  local is_json, request = pcall(json.decode, message)
  if not is_json or type(request) ~= "table" then
    return false, "this is not a JSON object"
  end
  local command = commands[request.command]
  if not command then
    return false, "there is no such command"
  end
  return command(request)
end

event_route["evapi:message-received"] = function(evapi)
  local ok, why = answer(evapi.msg)
  evapi.reply(json.encode({ok = ok, error = why}))
end
