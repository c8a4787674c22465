# llbatch alone in an image from scratch: no shell, no libraries. The state is a volume, so that a new container finds its jobs.
#
#   docker build -t llbatch .
#   docker run --rm -v "$PWD:/data" -v llbatch:/state llbatch run prompts.jsonl --sandbox -o out.jsonl
#
# The user is 65532: results go to /data only if that user may write there (or pass --user "$(id -u):$(id -g)"). There is no
# shell for --on-done; --notify and --metrics work.
FROM rust:1-alpine AS build
RUN apk add --no-cache build-base ca-certificates
WORKDIR /src
COPY . .
RUN cargo build --locked --profile dist && mkdir -p /image/state /image/data /image/tmp && chmod 1777 /image/tmp && \
    cp target/dist/llbatch /image/

FROM scratch
COPY --from=build /image/llbatch /usr/bin/llbatch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 /image/state /state
COPY --from=build --chown=65532:65532 /image/data /data
COPY --from=build /image/tmp /tmp
ENV LLBATCH_STATE_DIR=/state HOME=/state PATH=/usr/bin
USER 65532:65532
VOLUME /state
WORKDIR /data
ENTRYPOINT ["/usr/bin/llbatch"]
