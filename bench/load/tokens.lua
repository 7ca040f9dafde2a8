-- Every request one row of LENGTH random token ids, for a model called MODEL.
require("result")

local length = tonumber(os.getenv("LENGTH"))
local path = "/models/" .. os.getenv("MODEL") .. "/predict"

function init(_)
  math.randomseed(tonumber(os.getenv("SEED")))
end

function request()
  local ids = {}
  for n = 1, length do
    ids[n] = math.random(0, 999)
  end
  local tensor = string.format('{"name":"ids","datatype":"INT64","shape":[1,%d],"data":[%s]}', length, table.concat(ids, ","))
  return wrk.format("POST", path, {["Content-Type"] = "application/json"}, '{"inputs":[' .. tensor .. "]}")
end
