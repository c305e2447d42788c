# The library that users link, as build/libheadrace.so and build/libheadrace.a:
# the objects of all rooms. The shared object exports what the public header
# declares and nothing else; the header is the only list of it.
set(rooms hr_runtime hr_backend hr_scheduler hr_kernels hr_device hr_io hr_base)
if(TARGET hr_cuda)
  list(APPEND rooms hr_cuda hr_device_cuda)
endif()
set(objects)
foreach(room ${rooms})
  list(APPEND objects $<TARGET_OBJECTS:${room}>)
endforeach()

set(header ${CMAKE_SOURCE_DIR}/include/headrace/headrace.h)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${header})
file(STRINGS ${header} lines REGEX "[ *]hr_[a-z0-9_]+\\(")
set(names hr_error_text)
foreach(line ${lines})
  string(REGEX MATCHALL "hr_[a-z0-9_]+\\(" calls "${line}")
  foreach(call ${calls})
    string(REPLACE "(" "" name ${call})
    list(APPEND names ${name})
  endforeach()
endforeach()
list(REMOVE_DUPLICATES names)
list(SORT names)
list(JOIN names "; " names)
set(map ${CMAKE_BINARY_DIR}/libheadrace.map)
file(CONFIGURE OUTPUT ${map} CONTENT "HEADRACE_${PROJECT_VERSION_MAJOR} { global: ${names}; local: *; };\n")

add_library(headrace_shared SHARED ${objects})
set_target_properties(headrace_shared PROPERTIES
  OUTPUT_NAME headrace
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}
  LINK_DEPENDS ${map}
  LINKER_LANGUAGE C
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
target_link_options(headrace_shared PRIVATE LINKER:--version-script=${map})
if(NOT HEADRACE_SANITIZE) # whose symbols come with the program
  target_link_options(headrace_shared PRIVATE LINKER:-z,defs)
endif()
target_link_libraries(headrace_shared PRIVATE libheadrace_static)

add_library(headrace_archive STATIC ${objects})
set_target_properties(headrace_archive PROPERTIES
  OUTPUT_NAME headrace
  LINKER_LANGUAGE C
  ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
