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
#include <utility>

#include "daemon/answer.h"

namespace guestscope {

class Renderings {
 public:
  /// What the first call with that key got from its `make()`, an Answer or an exception.
  template <typename Make>
  std::shared_ptr<const Answer> once(const std::string& key, Make make) {
    std::promise<std::shared_ptr<const Answer>> promise;
    const auto [made, is_new] = join(key, promise.get_future().share());
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

  /// The one that is there, or `made`, and whether that is new.
  std::pair<Made, bool> join(const std::string& key, Made made) {
    const std::lock_guard lock(mutex_);
    const auto [found, is_new] = made_.try_emplace(key, std::move(made));
    return {found->second, is_new};
  }

  std::mutex mutex_;
  std::map<std::string, Made> made_;  // guarded by mutex_
};

}  // namespace guestscope
