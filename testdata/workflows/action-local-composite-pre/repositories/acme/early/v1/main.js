console.log('in its step')
