# Starts a submitted command: `exec sh jobs/cluster/start.sh encode s3://corpus s3://bank`, in the job's working_dir.
#
# With which Python? A job's PATH is that of `ray start`, which works from a virtual environment without activating it;
# `python` is then another one, without Ray, or none. So the first choice is the Python of the process that starts this
# script, Ray's job supervisor: its environment holds the Ray library that the supervisor has loaded (Linux shows it).
own=$(sed -n 's|.* \(/.*\)/lib[64]*/python3[.0-9]*/[a-z]*-packages/ray/_raylet\.so$|\1/bin/python3|p' "/proc/$PPID/maps" 2>/dev/null | head -n 1)
for python in "$NEXTMEM_PYTHON" "$own" python3 python; do
    if "$python" -c 'from importlib.util import find_spec as find; raise SystemExit(find("ray") is None)' 2>/dev/null; then
        exec "$python" -m nextmem.cli "$@"
    fi
done
echo "nextmem: the head has no Python with Ray on its PATH: submit with --env NEXTMEM_PYTHON=/path/to/python" >&2
exit 1
