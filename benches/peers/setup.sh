#!/usr/bin/env bash
# Makes the Python environment of the peers beside this script: setup.sh [FOLDER]
set -euo pipefail
folder="${1:-$(dirname "$0")/.venv}"
python3 -m venv "$folder"
# The versions that benches/README.md has numbers of. PyTorch is not needed.
"$folder/bin/pip" install --quiet \
    datasets==5.2.0 transformers==5.23.0 tokenizers==0.23.3 huggingface_hub==2.4.0 jinja2==3.1.6
"$folder/bin/python" -c 'import datasets, transformers; print(datasets.__version__, transformers.__version__)'
