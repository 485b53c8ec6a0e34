# The study in an image, CUDA or CPU by one argument (docs/install.md):
#
#     docker build -t clinical-ner .
#     docker build -t clinical-ner --build-arg TORCH=cpu --build-arg TORCH_INDEX=URL .
#     docker run --rm --network none clinical-ner
#
# Packages come from pip's own index, or from the one named by --build-arg PIP_INDEX_URL. When it runs it needs no network.
FROM python:3.11-slim

RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home study && install --directory --owner=study /study
USER study
WORKDIR /study

ARG TORCH=cuda
ARG TORCH_INDEX=
ARG PIP_INDEX_URL
COPY --chown=study Makefile pyproject.toml requirements.lock torch.lock README.md ./
COPY --chown=study nbutils/__init__.py nbutils/__init__.py
RUN PIP_NO_CACHE_DIR=1 make install

COPY --chown=study . .
# Whoever runs it (--user) may write where results go, and has a home and a name for Jupyter and Snakemake.
RUN touch .venv/installed && mkdir -p -m 1777 runs models report tagged data/jmed-llm
ENV HOME=/tmp USER=study

# Models and data are brought along or mounted, never fetched.
ENV HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1
VOLUME ["/study/runs", "/study/models", "/study/report", "/study/tagged"]
CMD ["make", "verify"]
