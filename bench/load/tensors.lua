-- One row of WIDTH random floats a request, taken in turn from a pool of prepared ones, for the model MODEL over
-- the Open Inference Protocol; FORM says how they are written and asked for: json or binary.
require("result")
local ffi = require("ffi")
local path = "/v2/models/" .. os.getenv("MODEL") .. "/infer"
local width = tonumber(os.getenv("WIDTH"))
local requests = {}
local at = 0

local function json()
  local row = {}
  for i = 1, width do
    row[i] = string.format("%.6f", math.random())
  end
  local tensor = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,%d],"data":[%s]}]}'
  return wrk.format("POST", path, {}, string.format(tensor, width, table.concat(row, ",")))
end

local function binary()
  local row = ffi.new("float[?]", width)
  for i = 0, width - 1 do
    row[i] = math.random()
  end
  local tensor = '{"parameters":{"binary_data_output":true},"inputs":[{"name":"x","datatype":"FP32","shape":[1,%d],"parameters":{"binary_data_size":%d}}]}'
  local head = string.format(tensor, width, 4 * width)
  return wrk.format("POST", path, {["Inference-Header-Content-Length"] = #head}, head .. ffi.string(row, 4 * width))
end

function init(_)
  math.randomseed(tonumber(os.getenv("SEED")))
  for i = 1, 200 do
    requests[i] = os.getenv("FORM") == "json" and json() or binary()
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end
