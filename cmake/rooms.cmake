# Rooms: one static library each. A room sees the headers of the rooms it names
# and of no other, because the compiler is given include paths that hold just
# those: build/rooms/<room>/<dir> are links to the allowed directories.
#
#   headrace_room(io ALLOW base DIRS io SOURCES ... LINK ...)

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(URING REQUIRED IMPORTED_TARGET liburing>=2.3)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)

add_library(headrace_flags INTERFACE)
target_compile_features(headrace_flags INTERFACE c_std_11)
target_compile_definitions(headrace_flags INTERFACE _GNU_SOURCE)
set(flags -Wall -Wextra -fvisibility=default -ffp-contract=off)
if(HEADRACE_WERROR)
  list(APPEND flags -Werror)
endif()
if(HEADRACE_SANITIZE)
  list(APPEND flags -fsanitize=${HEADRACE_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(headrace_flags INTERFACE -fsanitize=${HEADRACE_SANITIZE})
endif()
# In CUDA these are for the host compiler, and nvcc has flags of its own for the rest.
list(JOIN flags "," host_flags)
target_compile_options(headrace_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:C,CXX>:${flags}>"
  "$<$<COMPILE_LANGUAGE:C>:-Wshadow;-Wpointer-arith;-Wstrict-prototypes;-Wmissing-prototypes;-Wvla>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${host_flags}>")
target_link_libraries(headrace_flags INTERFACE Threads::Threads)

# A directory whose only entries are links to what `room` may include.
function(headrace_view room)
  set(view ${CMAKE_BINARY_DIR}/rooms/${room})
  file(MAKE_DIRECTORY ${view})
  foreach(dir ${ARGN})
    get_filename_component(parent ${view}/${dir} DIRECTORY)
    file(MAKE_DIRECTORY ${parent})
    if(NOT EXISTS ${view}/${dir})
      file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${dir} ${view}/${dir} SYMBOLIC)
    endif()
  endforeach()
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/include/headrace ${view}/headrace SYMBOLIC)
endfunction()

function(headrace_room room)
  cmake_parse_arguments(R "" "" "SEES;SOURCES;LINK" ${ARGN})
  add_library(hr_${room} STATIC ${R_SOURCES})
  set_target_properties(hr_${room} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  headrace_view(${room} ${R_SEES})
  target_include_directories(hr_${room} PRIVATE ${CMAKE_BINARY_DIR}/rooms/${room})
  target_link_libraries(hr_${room} PUBLIC headrace_flags PRIVATE ${R_LINK})
endfunction()
