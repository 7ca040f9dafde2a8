# The model server by default; the gateway, the worker and the client of it are in here as well:
#
#   docker build -t p3 .
#   docker run -p 127.0.0.1:54321:5440 p3
#   docker run p3 python gw.py -h
#
# EXTRAS=gateway,worker,grpc,kubernetes,cli,formats adds every model format, and 400 MB.

FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=gateway,worker,grpc,kubernetes,cli
WORKDIR /src
RUN python -m venv /opt/pipeline
# torch is nearly all of the image: in a layer of its own, it is fetched again only for another version.
COPY constraints.txt ./
RUN /opt/pipeline/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" -c constraints.txt torch
COPY . ./
RUN /opt/pipeline/bin/pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]"

FROM python:3.11-slim
COPY --from=build /opt/pipeline /opt/pipeline
ENV PATH=/opt/pipeline/bin:$PATH PYTHONUNBUFFERED=1
# The gateway keeps its state in the folder it is started in; a volume over it belongs to whom the folder does.
RUN useradd --uid 1000 --create-home --home-dir /srv/pipeline pipeline \
    && install --directory --owner pipeline --group pipeline /srv/pipeline/state
WORKDIR /srv/pipeline
COPY gw.py worker.py server.py client.py ./
USER 1000
EXPOSE 5440
# An empty row is answered with an error, and that is an answer. --no-healthcheck for the other programs.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
    CMD ["python", "-c", "import grpc, modelserver_pb2 as m, modelserver_pb2_grpc as g; g.ModelServerStub(grpc.insecure_channel('127.0.0.1:5440')).Predict(m.PredictRequest(), timeout=5)"]
# In a container all addresses are the container's own; `docker run -p` says who reaches them.
CMD ["python", "server.py", "--host", "0.0.0.0", "--insecure"]
