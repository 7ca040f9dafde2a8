-- Whole requests of the file REQUESTS: a line with a length and so many bytes, again and again. They are sent in
-- that order or, where there is a file ORDER, in the one of its lines: each is a request's number, from 1. FIRST is
-- how many are passed over at the start.
require("result")
local requests, order = {}, {}
local at = tonumber(os.getenv("FIRST"))

function init(_)
  local file = io.open(os.getenv("REQUESTS"), "rb")
  local length = file:read("*n")
  while length do
    file:read(1)
    requests[#requests + 1] = file:read(length)
    length = file:read("*n")
  end
  file:close()
  for n = 1, #requests do
    order[n] = n
  end
  if os.getenv("ORDER") ~= "" then
    order = {}
    for line in io.lines(os.getenv("ORDER")) do
      order[#order + 1] = tonumber(line)
    end
  end
end

function request()
  at = at % #order + 1
  return requests[order[at]]
end
