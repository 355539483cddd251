# A Weir node. Build: docker build -t weir .
#
# Run (host networking spares the UDP ports their translation):
#   docker run --network host -e WEIR_AUTH__KEYS__mykey="$(openssl rand -hex 32)" weir
# or, with ports, tell clients the public address:
#   docker run -p 7880:7880 -p 7882:7882/udp -e WEIR_MEDIA__ADVERTISED='[203.0.113.7]' -e WEIR_AUTH__KEYS__mykey=… weir

# Another base with Python 3.11 to 3.13 and glibc: --build-arg BASE=…
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# What is installed is what the lock files name, by hash; nothing else is fetched.
COPY locks /src/locks
RUN python -m venv /opt/weir && /opt/weir/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /src/locks/run.txt
RUN python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /src/locks/build.txt
COPY pyproject.toml README.md /src/
COPY codecs /src/codecs
COPY config /src/config
COPY loadtest /src/loadtest
COPY mediaserver /src/mediaserver
COPY routing /src/routing
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --disable-pip-version-check --wheel-dir /wheels /src \
    && /opt/weir/bin/pip install --no-deps --no-index --no-cache-dir --disable-pip-version-check /wheels/*.whl

# Compiled kernels are kept for one kind of processor: a named one, or the cache misses on the next host. This one is
# any x86 server since 2013 (AVX2) with AES. For ARM: --build-arg NUMBA_CPU_NAME=generic --build-arg NUMBA_CPU_FEATURES=+neon
ARG NUMBA_CPU_NAME=x86-64-v3
ARG NUMBA_CPU_FEATURES=+64bit,+adx,+aes,+avx,+avx2,+bmi,+bmi2,+cmov,+crc32,+cx16,+cx8,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+pclmul,+popcnt,+sahf,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave
ENV NUMBA_CPU_NAME=$NUMBA_CPU_NAME NUMBA_CPU_FEATURES=$NUMBA_CPU_FEATURES WEIR_CACHE_DIR=/var/cache/weir
RUN /opt/weir/bin/python -c "from mediaserver.engine.warm import warm; warm(lambda name, done, total: None)"

FROM ${BASE}
RUN useradd --system --create-home --uid 7880 weir
ARG NUMBA_CPU_NAME=x86-64-v3
ARG NUMBA_CPU_FEATURES=+64bit,+adx,+aes,+avx,+avx2,+bmi,+bmi2,+cmov,+crc32,+cx16,+cx8,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+pclmul,+popcnt,+sahf,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave
ENV PATH=/opt/weir/bin:$PATH NUMBA_CPU_NAME=$NUMBA_CPU_NAME NUMBA_CPU_FEATURES=$NUMBA_CPU_FEATURES WEIR_CACHE_DIR=/var/cache/weir
COPY --from=build /opt/weir /opt/weir
COPY --from=build --chown=weir /var/cache/weir /var/cache/weir
COPY config/default.yaml config/weir.schema.json /etc/weir/
COPY scripts/weir-health /usr/local/bin/
USER weir
EXPOSE 7880/tcp 7882/udp
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["weir-health"]
ENTRYPOINT ["weir"]
CMD ["serve", "/etc/weir/default.yaml"]
