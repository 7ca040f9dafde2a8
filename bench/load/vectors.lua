-- Requests of ROWS random rows, taken in turn from a pool of POOL prepared ones: a pool of more rows than the
-- cache holds misses always, a small one hits always.
require("result")
local bodies = {}
local at = 0

function init(_)
  math.randomseed(tonumber(os.getenv("SEED")))
  local rows = tonumber(os.getenv("ROWS"))
  for i = 1, tonumber(os.getenv("POOL")) do
    local row = {}
    for j = 1, rows do
      row[j] = string.format("[%.6f,%.6f]", math.random(), math.random())
    end
    bodies[i] = post('{"vectors":[' .. table.concat(row, ",") .. "]}")
  end
end

function request()
  at = at % #bodies + 1
  return bodies[at]
end
