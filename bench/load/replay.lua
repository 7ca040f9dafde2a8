-- The requests of the file REQUESTS in turn, each behind a line that says how many bytes it has.
require("result")
local requests = {}
local at = 0

function init(_)
  local file = io.open(os.getenv("REQUESTS"), "rb")
  local size = file:read("*n")
  while size do
    file:read(1)
    requests[#requests + 1] = file:read(size)
    size = file:read("*n")
  end
  file:close()
end

function request()
  at = at % #requests + 1
  return requests[at]
end
