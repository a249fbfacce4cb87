// is_text: whether bytes from the guest can be shown as a string.
#pragma once

#include <string_view>

namespace guestscope {

/// Valid UTF-8 (no overlong forms, no surrogates) without control characters but tab, newline and
/// carriage return. Source of truth: RFC 3629; Unicode category Cc.
bool is_text(std::string_view bytes);

}  // namespace guestscope
