-- Only these addresses may subscribe. Others are closed before they have been sent anything.

local allowed = {
  ["127.0.0.1"] = true,
  ["::1"] = true,
  ["192.0.2.7"] = true,
  unix = true, -- who may open a Unix socket is said by its mode
}

event_route["evapi:connection-new"] = function(evapi)
  if not allowed[evapi.srcaddr] then
    xlog("L_WARN", "refused " .. evapi.srcaddr .. ":" .. evapi.srcport)
    evapi.close()
  end
end
