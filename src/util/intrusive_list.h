// Doubly linked list whose links are part of its members: linking and unlinking never allocate, and
// a member unlinks itself when it is destroyed. A member with several places derives from
// ListHook<Tag> once for each.

#ifndef EVRELAY_UTIL_INTRUSIVE_LIST_H_
#define EVRELAY_UTIL_INTRUSIVE_LIST_H_

namespace evrelay {

template <class Tag>
class ListHook {
 public:
  ListHook() = default;
  ListHook(const ListHook&) = delete;
  ListHook& operator=(const ListHook&) = delete;
  ~ListHook() { Unlink(); }

  bool linked() const { return next_ != this; }
  void Unlink() {
    prev_->next_ = next_;
    next_->prev_ = prev_;
    next_ = prev_ = this;
  }

 private:
  template <class, class>
  friend class IntrusiveList;

  void LinkBefore(ListHook& next) {
    prev_ = next.prev_;
    next_ = &next;
    prev_->next_ = this;
    next.prev_ = this;
  }

  ListHook* next_ = this;
  ListHook* prev_ = this;
};

template <class T, class Tag>
class IntrusiveList {
  using Hook = ListHook<Tag>;

 public:
  IntrusiveList() = default;
  ~IntrusiveList() {
    while (!empty()) PopFront();
  }

  bool empty() const { return !head_.linked(); }
  T& front() { return Cast(*head_.next_); }

  // Moves `item` here from wherever it was linked.
  void PushBack(T& item) {
    Hook& hook = item;
    hook.Unlink();
    hook.LinkBefore(head_);
  }
  void PushFront(T& item) {
    Hook& hook = item;
    hook.Unlink();
    hook.LinkBefore(*head_.next_);
  }
  T& PopFront() {
    Hook& hook = *head_.next_;
    hook.Unlink();
    return Cast(hook);
  }
  // Appends all members of `other`, in order; O(1).
  void TakeAll(IntrusiveList& other) {
    if (other.empty()) return;
    Hook& first = *other.head_.next_;
    Hook& last = *other.head_.prev_;
    other.head_.next_ = other.head_.prev_ = &other.head_;
    first.prev_ = head_.prev_;
    head_.prev_->next_ = &first;
    last.next_ = &head_;
    head_.prev_ = &last;
  }

  class iterator {
   public:
    explicit iterator(Hook* at) : at_(at) {}
    T& operator*() const { return Cast(*at_); }
    T* operator->() const { return &Cast(*at_); }
    iterator& operator++() {
      at_ = at_->next_;
      return *this;
    }
    friend bool operator==(const iterator&, const iterator&) = default;

   private:
    Hook* at_;
  };
  iterator begin() { return iterator(head_.next_); }
  iterator end() { return iterator(&head_); }

 private:
  static T& Cast(Hook& hook) { return static_cast<T&>(hook); }

  Hook head_;
};

}  // namespace evrelay

#endif  // EVRELAY_UTIL_INTRUSIVE_LIST_H_
