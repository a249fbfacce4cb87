// Renderings: what is made of one snapshot for those who share it, once for all who want the same:
// making JSON of it costs more than taking it.
//
// Threads: any; who comes while it is being made waits for it.
#pragma once

#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "daemon/answer.h"

namespace guestscope {

class Renderings {
 public:
  /// What the first call with that key got from its `make()`, an Answer or an exception.
  template <typename Make>
  std::shared_ptr<const Answer> once(const std::string& key, Make make) {
    std::promise<std::shared_ptr<const Answer>> promise;
    bool is_new = false;
    const Made made = join(key, promise, is_new);
    if (is_new) {
      try {
        promise.set_value(std::make_shared<const Answer>(make()));
      } catch (...) {
        promise.set_exception(std::current_exception());
      }
    }
    return made.get();
  }

 private:
  using Made = std::shared_future<std::shared_ptr<const Answer>>;

  Made join(const std::string& key, std::promise<std::shared_ptr<const Answer>>& promise,
            bool& is_new) {
    const std::lock_guard lock(mutex_);
    const auto [found, inserted] = made_.try_emplace(key);
    is_new = inserted;
    if (inserted) found->second = promise.get_future().share();
    return found->second;
  }

  std::mutex mutex_;
  std::map<std::string, Made> made_;  // guarded by mutex_
};

}  // namespace guestscope
