-- The file FILE as the body, of CONTENT_TYPE, to ROUTE. Each has another number behind its end, where whoever
-- decodes it does not look, so that none is answered from a cache.
require("result")
local headers = {["Content-Type"] = os.getenv("CONTENT_TYPE")}
local route = os.getenv("ROUTE")
local at = tonumber(os.getenv("SEED")) * 10000000
local content

function init(_)
  local file = io.open(os.getenv("FILE"), "rb")
  content = file:read("*a")
  file:close()
end

function request()
  at = at + 1
  return wrk.format("POST", route, headers, content .. string.format("%020d", at))
end
