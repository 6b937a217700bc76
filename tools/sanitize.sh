#!/usr/bin/env bash
# The extension under AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer.
# Each first has to find an error planted for it. Called by `make sanitize`.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
packages=$("$bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
optimizer_tests=(tests/test_{backends,bad_arguments,bad_tensors,clipping,copies,differentiable,family_parity,family_state,fuzz,hooks,in_backward,kernels,looks,memory,processes,schedulers,sharing,stability,state_dict,state_names,threads,torch_api,update_size,watch}.py)

build() {  # NAME SANITIZERS: into build/NAME/site
    PATH="$bin:$PATH" cmake -S . -B "build/$1" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DMEANSQUARE_SANITIZE="$2" -DPython_EXECUTABLE="$bin/python" \
        -Dnanobind_DIR="$("$bin/python" -m nanobind --cmake_dir)" >/dev/null
    "$bin/ninja" -C "build/$1" --quiet
    rm -rf "build/$1/site"
    cp -r src "build/$1/site"
    rm -f "build/$1/site/meansquare"/_native*.so
    cp "build/$1"/_native*.so "build/$1/site/meansquare/"
}

# Without site, so that the installed package does not come first. The sanitizers' own libraries have
# to be there before Python; it and torch leak by design.
under() {  # NAME LIBRARIES COMMAND...
    local name=$1 libraries="" library
    for library in $2; do libraries+=" $("${CXX:-c++}" -print-file-name="$library")"; done
    LD_PRELOAD="${libraries# }" PYTHONPATH="build/$name/site:tests:$packages" \
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
        TSAN_OPTIONS="halt_on_error=1:suppressions=$PWD/tests/native/tsan.supp" "$bin/python" -S "${@:3}"
}

must_find() {  # WHAT COMMAND...
    local said
    if said=$("${@:2}" 2>&1) || ! grep -q "$1" <<<"$said"; then
        echo "sanitize: the planted $1 was not found:" "$said" >&2
        exit 1
    fi
}

echo "AddressSanitizer and UndefinedBehaviorSanitizer"
build address address,undefined
address=(under address "libasan.so libubsan.so")
must_find heap-buffer-overflow "${address[@]}" tests/native/planted.py overflow
"${address[@]}" -m pytest -p no:cacheprovider "${optimizer_tests[@]}"
"${address[@]}" -m fuzz --seconds 30

echo "ThreadSanitizer"
flags=(-std=c++20 -O1 -g -pthread -Icsrc tests/native/pool.cpp)
"${CXX:-c++}" "${flags[@]}" -o build/pool
build/pool 10000000
"${CXX:-c++}" -fsanitize=thread "${flags[@]}" -o build/pool_thread
build/pool_thread 10000000
build thread thread
thread=(under thread libtsan.so)
must_find "data race" "${thread[@]}" tests/native/planted.py race
"${thread[@]}" tests/native/planted.py none
